"""Constants of images."""

Rgb = tuple[float, float, float]  # a value a channel: red, green, blue
# ImageNet's mean and standard deviation of images in [0,1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
