"""The embedded sample of Fashion-MNIST and the embedded teacher."""
