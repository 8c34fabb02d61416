#!/usr/bin/python3
"""Calibrates a model pack: which share of non-mates reaches which score.

Usage: calibrate.py EMBED PACK PICTURES [ROWS]

PICTURES holds one directory a person, or files named person_NNNN.jpg. Every
pair of pictures of two people is a non-mate comparison, every pair of one
person a mate comparison. Pictures without a template are left out, as the
service would. ROWS keeps the templates between runs. Prints the calibration
section of a manifest.
"""

import os
import re
import subprocess
import sys

import numpy as np

RATES = [a * 10.0**-b for b in range(1, 9) for a in (1.0, 0.5, 0.2)]
# Fewer false matches than this are chance, not a measurement.
MIN_FALSE_MATCHES = 30
BINS = 2_000_000
BLOCK = 512


def list_pictures(root):
    for directory, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            if not name.lower().endswith((".jpg", ".jpeg", ".png", ".jp2")):
                continue
            person = re.sub(r"_\d+\.\w+$", "", name)
            if os.path.realpath(directory) != os.path.realpath(root):
                person = os.path.basename(directory)
            yield person, os.path.join(directory, name)


def embed(program, pack, paths, dim, cache):
    if cache and os.path.exists(cache):
        rows = np.fromfile(cache, np.float32)
    else:
        run = subprocess.run(
            [program, pack],
            input="".join(path + "\n" for path in paths).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        rows = np.frombuffer(run.stdout, np.float32)
        if cache:
            rows.tofile(cache)
    assert rows.size == dim * len(paths), "the templates are of other pictures"
    return rows.reshape(-1, dim)


def score_pairs(people, rows):
    """Histogram of the non-mate scores, and all mate scores."""
    counts = np.zeros(BINS, np.int64)
    mates = []
    for start in range(0, len(rows), BLOCK):
        scores = rows[start : start + BLOCK] @ rows[start:].T
        same = people[start : start + BLOCK, None] == people[None, start:]
        once = np.triu(np.ones(scores.shape, bool), 1)
        mates.append(scores[same & once])
        bins = (np.clip(scores[~same & once], -1, 1) + 1) * (BINS / 2)
        counts += np.bincount(np.minimum(bins.astype(np.int64), BINS - 1), minlength=BINS)
    return counts, np.concatenate(mates)


def score_reached_by(counts, n):
    """The lowest score that at most n non-mates reach."""
    from_top = np.cumsum(counts[::-1])
    return 1 - np.searchsorted(from_top, n, side="right") * 2 / BINS


def read_manifest(pack, key):
    with open(os.path.join(pack, "manifest.yaml"), encoding="utf-8") as manifest:
        return re.search(rf"^{key}: *(.*)$", manifest.read(), re.M).group(1)


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    program, pack, root = sys.argv[1:4]
    cache = sys.argv[4] if len(sys.argv) == 5 else None
    pictures = list(list_pictures(root))
    paths = [path for _, path in pictures]
    rows = embed(program, pack, paths, int(read_manifest(pack, "dimension")), cache)
    made = rows.any(axis=1)
    _, people = np.unique([person for person, _ in pictures], return_inverse=True)
    people, rows = people[made], rows[made]
    counts, mates = score_pairs(people, rows)
    non_mates = int(counts.sum())

    print(f"# {len(paths)} pictures, {int(made.sum())} templates of {len(set(people))} people")
    print("calibration:")
    print(f"  mates: {len(mates)}")
    print(f"  non_mates: {non_mates}")
    print("  points:")
    for rate in RATES:
        if rate * non_mates < MIN_FALSE_MATCHES:
            break
        score = score_reached_by(counts, rate * non_mates)
        reached = float((mates >= score).mean())
        print(f"    - {{fmr: {rate:.0e}, score: {score:.4f}}} # {reached:.4f} of mates reach it")
    print(f"  band_stranger: {score_reached_by(counts, 0.01 * non_mates):.4f}")
    print(f"  band_mate: {float(np.median(mates)):.4f}")


if __name__ == "__main__":
    main()
