// The text of /metrics as samples, and what changed between two readings of it.
'use strict';

const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL))
    labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
  return labels;
}

// One reading. A sample is {key, labels, value}; its key is the same in every reading.
class Reading {
  constructor(text, time) {
    this.time = time;
    this.families = new Map();
    for (const line of text.split('\n')) {
      const found = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (!found)
        continue;
      const [, name, labels = '', value] = found;
      if (!this.families.has(name))
        this.families.set(name, new Map());
      this.families.get(name).set(labels, { key: labels, labels: labelsOf(labels), value: Number(value) });
    }
  }

  all(name, wanted = {}) {
    return [...(this.families.get(name)?.values() ?? [])]
      .filter(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value));
  }

  // The only sample of a family, or undefined.
  one(name, wanted) {
    return this.all(name, wanted)[0]?.value;
  }

  sum(name, wanted) {
    return this.all(name, wanted).reduce((sum, { value }) => sum + value, 0);
  }
}

// What a counter grew by from one reading to a later one; a series that was not there began at 0.
function growth(before, now, name, wanted) {
  return now.sum(name, wanted) - before.sum(name, wanted);
}

// The quantile of a histogram's growth, within its bucket by straight line; undefined where nothing was observed.
function quantile(before, now, name, wanted, q) {
  const counts = new Map();
  for (const { labels, value } of now.all(`${name}_bucket`, wanted))
    counts.set(labels.le, (counts.get(labels.le) ?? 0) + value);
  for (const { labels, value } of before.all(`${name}_bucket`, wanted))
    counts.set(labels.le, counts.get(labels.le) - value);
  const buckets = [...counts].map(([le, n]) => [le === '+Inf' ? Infinity : Number(le), n]).sort((a, b) => a[0] - b[0]);
  const total = buckets.at(-1)?.[1];
  let low = 0, below = 0;
  if (!total)
    return undefined;
  for (const [high, n] of buckets) {
    if (n >= q * total)
      return high === Infinity ? low : low + (high - low) * (q * total - below) / (n - below);
    low = high;
    below = n;
  }
  return low;
}
