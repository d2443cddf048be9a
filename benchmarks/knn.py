"""kNN search against faiss alone and torch alone, on one machine in one run.

    python benchmarks/knn.py [--threads 2] [--rounds 5] [--bank 60000] [--queries 10000] ...

The two plain ways get unit rows, as they need; knn_search gets raw rows once and unit rows once.
Each round runs all of them in a random order; figures are medians over rounds, and ratios are
taken within a round, so that a machine's slow minute falls on all alike.
"""

import argparse
import platform
import random
from collections.abc import Callable

import faiss
import torch
import torch.nn.functional as F
from timing import clock, spread
from torch import Tensor

from mgd_ssl.evaluation import knn_search

BLOCK = 512  # queries a matrix product of the torch way; 256 to 1024 are equally fast


def faiss_alone(query: Tensor, bank: Tensor, k: int) -> Tensor:
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.numpy())
    return torch.from_numpy(index.search(query.numpy(), k)[0])


def torch_alone(query: Tensor, bank: Tensor, k: int) -> Tensor:
    return torch.cat([torch.topk(rows @ bank.T, k).values for rows in query.split(BLOCK)])


def clustered(rows: int, features: int, generator: torch.Generator) -> Tensor:
    """Rows in a hundred loose clusters, as a network's features are."""
    centers = torch.randn(100, features, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(rows, features, generator=generator)
    return centers[torch.arange(rows) % 100] + 2 * noise


def measure(ways: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in random.sample(list(ways), len(ways)):
            taken = clock(ways[name])
            if turn:
                seconds[name].append(taken)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bank", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("-k", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(1)
    bank = clustered(args.bank, args.features, generator)
    query = clustered(args.queries, args.features, generator)
    unit_bank, unit_query, k = F.normalize(bank, dim=1), F.normalize(query, dim=1), args.k
    ways: dict[str, Callable[[], Tensor]] = {
        "knn_search, unit rows": lambda: knn_search(unit_query, unit_bank, k)[0],
        "knn_search, raw rows": lambda: knn_search(query, bank, k)[0],
        "faiss IndexFlatIP": lambda: faiss_alone(unit_query, unit_bank, k),
        "torch matmul + topk": lambda: torch_alone(unit_query, unit_bank, k),
    }
    expected = ways["torch matmul + topk"]()
    for name, way in ways.items():
        torch.testing.assert_close(way(), expected, atol=2e-6, rtol=0, msg=name)
    seconds = measure(ways, args.rounds)
    report(args, seconds)


def report(args: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    print(
        f"bank {args.bank} x {args.features}, {args.queries} queries, k {args.k}; {args.threads} "
        f"threads, {args.rounds} rounds; torch {torch.__version__}, faiss {faiss.__version__}, "
        f"{platform.machine()}"
    )
    plain = ["faiss IndexFlatIP", "torch matmul + topk"]
    fastest = [min(times) for times in zip(*(seconds[name] for name in plain), strict=True)]
    print(f"{'':24}{'seconds':28}faster than the fastest plain way, times")
    for name, times in seconds.items():
        ratios = [f / t for f, t in zip(fastest, times, strict=True)]
        print(f"{name:24}{spread(times, ' ', 6):28}{spread(ratios, ' ', 6)}")


if __name__ == "__main__":
    main()
