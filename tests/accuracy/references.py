#!/usr/bin/python3
"""What several references of a subject gain: FNMR and FMR by their number, the best of them and fused.

Usage: references.py PACK TEMPLATES

TEMPLATES is what `biomatch calibrate --templates` keeps; the first six pictures are taken of
every person who has as many. Each is the probe once; the ones after it are the references, held
against the threshold that the pack's calibration gives for the target shared among
them, as the service does. Every other person's pictures are probes of strangers.
Beside it stands what the first reference alone would have done in the same trials.
"""

import sys

import numpy as np
from frames import MOST, TARGETS, interval, read_calibration, read_people, threshold


def score(references, probes):
    """Of each probe: with the first reference, with the best, with the fused one."""
    each = probes @ references.T
    fused = references.sum(axis=0)
    return np.stack([each[:, 0], each.max(axis=1), probes @ (fused / np.linalg.norm(fused))])


def trials(people, n):
    """All scores of mates and of strangers, a row for each way of comparing."""
    mates, strangers = [], []
    for person, rows in enumerate(people):
        others = np.concatenate(people[:person] + people[person + 1 :])
        for at in range(len(rows)):
            references = rows[[(at + 1 + i) % len(rows) for i in range(n)]]
            mates.append(score(references, rows[at : at + 1]))
            strangers.append(score(references, others))
    return np.concatenate(mates, axis=1), np.concatenate(strangers, axis=1)


def measure(people, n, points):
    mates, strangers = trials(people, n)
    for target in TARGETS:
        least = threshold(points, 1 - (1 - target) ** (1 / n))
        cells = []
        for way in (1, 2):
            missed = int((mates[way] < least).sum())
            low, high = interval(missed, mates.shape[1])
            cells.append(f"{100 * missed / mates.shape[1]:.2f} % ({100 * low:.2f} to {100 * high:.2f})")
            cells.append(f"{(strangers[way] >= least).mean():.1e}")
        alone = (mates[0] < threshold(points, target)).mean()
        print(f"| {target:.0e} | {n} | {least:.4f} | {' | '.join(cells)} | {100 * alone:.2f} % | {mates.shape[1]} |")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    people, points = read_people(sys.argv[2]), read_calibration(sys.argv[1])
    print(f"\n{len(people)} people, {sum(map(len, people))} pictures\n")
    print("| target FMR | references | threshold | best: FNMR (95 %) | FMR | fused: FNMR (95 %) | FMR | first reference alone | probes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in range(1, MOST + 1):
        measure(people, n, points)


main()
