#!/usr/bin/python3
"""What probes of several frames gain: FNMR and FMR by the number of frames.

Usage: frames.py PACK TEMPLATES

TEMPLATES is what `biomatch calibrate --templates` keeps; the first six pictures are taken of
every person who has as many. Each is the reference once; the ones after it are the frames of a probe, weighted
alike, fused and held against the threshold that the pack's calibration gives for
the target shared among them, as the service does. Probes whose frames do not
match one another are counted apart, as the service refers them. Beside it stands
what the first frame alone would have done in the same trials.
"""

import json
import re
import sys

import numpy as np

TARGETS = (1e-3, 1e-4)
MOST = 5
ALIKE = 1e-3


def read_calibration(pack):
    with open(pack + "/manifest.yaml", encoding="utf-8") as manifest:
        points = re.findall(r"fmr: (\S+), score: (\S+?)}", manifest.read())
    return [(float(fmr), float(score)) for fmr, score in points]


def threshold(points, fmr):
    """Between two points by interpolation in log(fmr)."""
    rates = -np.log([rate for rate, _ in points])
    assert fmr >= points[-1][0], "beyond the calibration"
    return float(np.interp(-np.log(fmr), rates, [score for _, score in points]))


def probes(rows, n, alike):
    """Of one person's templates: the reference's number and the frames, None where they are not of one face."""
    for at in range(len(rows)):
        some = rows[[(at + 1 + i) % len(rows) for i in range(n)]]
        yield at, some if (some @ some.T >= alike).all() else None


def interval(k, n):
    """Wilson's, 95 %."""
    z = 1.96
    middle = (k + z * z / 2) / (n + z * z)
    half = z * np.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return max(middle - half, 0), middle + half


def measure(people, n, points):
    alike = threshold(points, ALIKE)
    references = np.concatenate(people)
    owner = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(people)])
    first = np.cumsum([0] + [len(rows) for rows in people])
    mates, alone, strangers, differ = [], [], [], 0
    for person, rows in enumerate(people):
        for at, some in probes(rows, n, alike):
            if some is None:
                differ += 1
                continue
            fused = some.sum(axis=0)
            scores = references @ (fused / np.linalg.norm(fused))
            mates.append(scores[first[person] + at])
            alone.append(rows[at] @ some[0])
            strangers.append(scores[owner != person])
    mates, alone, strangers = np.array(mates), np.array(alone), np.concatenate(strangers)
    for target in TARGETS:
        least = threshold(points, 1 - (1 - target) ** (1 / n))
        missed, wrong = int((mates < least).sum()), int((strangers >= least).sum())
        low, high = interval(missed, len(mates))
        print(
            f"| {target:.0e} | {n} | {least:.4f} | {100 * missed / len(mates):.2f} % ({100 * low:.2f} to {100 * high:.2f}) "
            f"| {100 * (alone < threshold(points, target)).mean():.2f} % | {wrong / len(strangers):.1e} "
            f"| {len(mates)} | {differ} |"
        )


def read_people(path):
    """The templates of those whose first pictures all gave one."""
    by_person = {}
    with open(path, encoding="utf-8") as file:
        next(file)
        for line in file:
            look = json.loads(line)
            by_person.setdefault(look["label"], []).append(look.get("template"))
    first = (rows[: MOST + 1] for rows in by_person.values() if len(rows) > MOST)
    return [np.array(rows, np.float32) for rows in first if None not in rows]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    people, points = read_people(sys.argv[2]), read_calibration(sys.argv[1])
    print(f"{len(people)} people, {sum(map(len, people))} pictures\n")
    print("| target FMR | frames | threshold | FNMR (95 %) | first frame alone | FMR | probes | frames differ |")
    print("|---|---|---|---|---|---|---|---|")
    for n in range(1, MOST + 1):
        measure(people, n, points)


if __name__ == "__main__":
    main()
