// Draws the readings. Text is always set as text, never as markup.
'use strict';

const PERIOD_MS = 2000;
const MINUTE_MS = 60000;
const POINTS = 900; // of a chart: half an hour
const FAULTS = ['INTERNAL', 'UNAVAILABLE', 'DATA_LOSS', 'UNKNOWN'];
const STAGES = ['queue', 'decode', 'detect', 'align', 'embed', 'quality', 'liveness', 'scan', 'commit'];
const HUES = [210, 45, 150, 280, 15, 180, 330, 95, 250];

const $ = (id) => document.getElementById(id);
const readings = []; // of the last minute, oldest first
const calls = [[], [], [], []], stages = [[], ...STAGES.map(() => [])];
let charts = [];

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...children);
  return made;
}

const many = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const few = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const level = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const count = (n) => (n === undefined ? '–' : many.format(n));
const rate = (n) => (n === undefined ? '–' : n > 0 && n < 10 ? few.format(n) : many.format(n));

function duration(seconds) {
  if (seconds === undefined)
    return '–';
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) {
    if (seconds >= size)
      return `${Math.floor(seconds / size)} ${unit}`;
  }
  return seconds >= 1 ? `${few.format(seconds)} s` : `${few.format(seconds * 1000)} ms`;
}

function bytes(n) {
  const power = n > 0 ? Math.min(4, Math.floor(Math.log2(n) / 10)) : 0;
  return `${few.format(n / 1024 ** power)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

function proportion(p) {
  return p === 0 ? '0' : p.toPrecision(2).replace(/e([+-])(\d+)/, (_, sign, digits) => `e${sign === '-' ? '−' : ''}${digits}`);
}

// rows: arrays of cells; a cell is text, a node, or [text, class].
function table(heads, rows, none) {
  if (!rows.length)
    return element('p', 'none', none);
  const cell = (tag, content, extra) => (Array.isArray(content)
    ? element(tag, `${extra} ${content[1]}`, content[0]) : element(tag, extra, content));
  return element('table', 'sheet',
    element('thead', '', element('tr', '', ...heads.map(([text, name]) => element('th', name, text)))),
    element('tbody', '', ...rows.map((row) => element('tr', '', ...row.map((content, i) => cell('td', content, heads[i][1]))))));
}

// A bar of parts [from, to, class], all within 0 and 1.
function bar(...parts) {
  const made = element('span', 'bar');
  for (const [from, to, name] of parts) {
    const part = element('i', name);
    part.style.left = `${100 * from}%`;
    if (name !== 'mark')
      part.style.width = `${100 * (to - from)}%`;
    made.append(part);
  }
  return made;
}

// The calls of samples with a status label, told apart.
function outcomes(samples) {
  const found = { answered: 0, refused: 0, failed: 0 };
  for (const { labels, value } of samples)
    found[labels.status === 'OK' ? 'answered' : FAULTS.includes(labels.status) ? 'failed' : 'refused'] += value;
  return found;
}

function changed(before, now, name, wanted) {
  const then = outcomes(before.all(name, wanted)), found = outcomes(now.all(name, wanted));
  return { answered: found.answered - then.answered, refused: found.refused - then.refused, failed: found.failed - then.failed };
}

function drawFigures(before, now) {
  const minutes = (now.time - before.time) / MINUTE_MS;
  const recent = changed(before, now, 'biomatch_rpcs_total');
  const total = outcomes(now.all('biomatch_rpcs_total'));
  const p99 = quantile(before, now, 'biomatch_rpc_seconds', { method: 'Verify' }, 0.99);
  const perMinute = (n) => rate(minutes ? n / minutes : undefined);
  const workers = now.one('biomatch_pool_threads', { pool: 'face' }), down = now.one('biomatch_face_workers_down');
  const figures = [
    ['Calls a minute', perMinute(recent.answered + recent.refused + recent.failed), `${count(total.answered)} answered in all`],
    ['Verify, 99 % within', duration(p99), p99 === undefined ? 'none in the last minute' : 'in the last minute'],
    ['Refused a minute', perMinute(recent.refused), `${count(total.refused)} in all`, recent.refused && 'warn'],
    ['Failed a minute', perMinute(recent.failed), `${count(total.failed)} in all`, recent.failed && 'bad'],
    ['Connections', count(now.one('biomatch_connections')), `${count(now.one('biomatch_tls_handshake_failures_total'))} handshakes failed`],
    ['Face workers', `${workers - down} of ${workers}`, `${count(now.one('biomatch_pool_busy', { pool: 'face' }))} busy`, down && 'bad'],
  ];
  $('figures').replaceChildren(...figures.map(([name, value, more, state]) => element('div', `figure ${state || ''}`,
    element('span', 'name', name), element('span', 'value', value), element('span', 'more', more))));
}

function stateOf(recent, connections) {
  if (recent.failed)
    return ['failing', 'bad', 0];
  if (recent.refused)
    return ['refusing', 'warn', 1];
  return connections > 0 ? ['connected', 'good', 2] : ['away', '', 3];
}

function drawEstate(before, now) {
  const minutes = (now.time - before.time) / MINUTE_MS;
  const keys = new Map(['biomatch_estate_connections', 'biomatch_estate_last_call_seconds'].flatMap((name) => now.all(name))
    .map(({ labels: { site, class: kind } }) => [`${site} ${kind}`, { site, class: kind }]));
  const rows = [...keys.values()].map((who) => {
    const recent = changed(before, now, 'biomatch_estate_calls_total', who);
    const total = outcomes(now.all('biomatch_estate_calls_total', who));
    const connections = now.one('biomatch_estate_connections', who) ?? 0;
    const last = now.one('biomatch_estate_last_call_seconds', who);
    return { who, recent, total, connections, last, state: stateOf(recent, connections) };
  }).sort((a, b) => a.who.site.localeCompare(b.who.site) || a.state[2] - b.state[2] || a.who.class.localeCompare(b.who.class));
  $('estate-sum').textContent = `${count(new Set(rows.map((row) => row.who.site)).size)} sites, ` +
    `${count(rows.filter((row) => row.connections).length)} of ${count(rows.length)} classes of endpoints connected`;
  $('estate').replaceChildren(table(
    [['Site', ''], ['Class', ''], ['State', ''], ['Connections', 'number roomy'], ['Last call', 'number roomy'], ['Calls a minute', 'number roomy'],
      ['Answered', 'number roomy'], ['Refused', 'number'], ['Failed', 'number roomy']],
    rows.map(({ who, recent, total, connections, last, state }, i) => [
      [who.site, i && rows[i - 1].who.site === who.site ? 'again' : ''], who.class, element('span', `badge ${state[1]}`, state[0]),
      count(connections), last === undefined ? '–' : `${duration(Math.max(0, Math.floor(now.time / 1000 - last)) || 1)} ago`,
      rate(minutes ? (recent.answered + recent.refused + recent.failed) / minutes : undefined), count(total.answered),
      [count(total.refused), recent.refused ? 'warn' : ''], [count(total.failed), recent.failed ? 'bad' : '']]),
    'No endpoint has connected since the start.'));
}

function tally(samples, label) {
  const sums = new Map();
  for (const { labels, value } of samples)
    sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  return [...sums].sort((a, b) => b[1] - a[1]);
}

const DECISION_STATES = { MATCH: 'good', CREATED: 'good', ADDED: 'good', NO_MATCH: 'bad', DUPLICATE: 'warn', REFER: 'warn' };

function drawDecisions(now) {
  const samples = now.all('biomatch_decisions_total');
  const rows = tally(samples, 'method').flatMap(([method, all]) =>
    tally(samples.filter(({ labels }) => labels.method === method), 'decision').map(([decision, n], i) => [
      [method, i ? 'again' : ''], decision, [bar([0, n / all, DECISION_STATES[decision] ?? '']), 'range'], count(n),
      `${few.format(100 * n / all)} %`]));
  $('decisions').replaceChildren(table([['Call', ''], ['Decision', ''], ['', ''], ['', 'number'], ['Share', 'number roomy']], rows,
    'Nothing has been decided since the start.'));
}

// A reason may be broken where its words meet.
function reasonText(reason) {
  return element('span', '', ...reason.split(/(?<=_)/).flatMap((word) => [word, document.createElement('wbr')]));
}

function drawReasons(before, now) {
  const referred = now.all('biomatch_decisions_total').filter(({ labels }) => labels.reason !== 'NONE');
  const recent = (name, reason) => count(growth(before, now, name, { reason }));
  const rows = [
    ...tally(referred, 'reason').map(([reason, n]) => [reasonText(reason), element('span', 'badge warn', 'referral'),
      recent('biomatch_decisions_total', reason), count(n)]),
    ...tally(now.all('biomatch_errors_total'), 'reason').map(([reason, n]) => [reasonText(reason), element('span', 'badge bad', 'error'),
      recent('biomatch_errors_total', reason), count(n)]),
  ];
  $('reasons').replaceChildren(table([['Reason', ''], ['', ''], ['Last minute', 'number'], ['In all', 'number']], rows,
    'Nobody was referred and nothing was refused since the start.'));
}

const byName = (a, b) => a.site.localeCompare(b.site) || a.class.localeCompare(b.class);
const inOrder = (samples) => samples.sort((a, b) => byName(a.labels, b.labels));

// Where a rate stands from 1e-6 to 1, by its logarithm.
const onScale = (p) => Math.min(1, Math.max(0, 1 + Math.log10(Math.max(p, 1e-6)) / 6));

function drawLiveFmr(now) {
  const rows = inOrder(now.all('biomatch_live_fmr_trials_total')).map(({ labels, value: trials }) => {
    const bound = (name) => now.one('biomatch_live_fmr', { ...labels, bound: name }) ?? 0;
    const hits = now.one('biomatch_live_fmr_hits_total', labels);
    const expected = now.one('biomatch_live_fmr_expected_total', labels) / trials;
    const state = bound('lower') > expected ? 'bad' : bound('upper') < expected ? 'good' : '';
    return [labels.site, labels.class, [bar([onScale(bound('lower')), onScale(bound('upper')), state],
      [onScale(expected), 0, 'mark']), 'range'],
    [`${proportion(bound('lower'))} to ${proportion(bound('upper'))}`, state === 'bad' ? 'bad' : ''],
    proportion(expected), count(hits), count(trials)];
  });
  $('fmr').replaceChildren(table([['Site', ''], ['Class', ''], ['1e−6 to 1', ''], ['Bounds', 'number'], ['Expected', 'number roomy'],
    ['Matches', 'number roomy'], ['Trials', 'number roomy']], rows, 'No verified probe has met references of others yet.'));
}

function drawGalleries(now) {
  const rows = now.all('biomatch_gallery_subjects').map(({ labels, value }) => [labels.gallery, count(value),
    count(now.one('biomatch_gallery_references', labels)), count(now.one('biomatch_gallery_segments', labels)),
    count(now.one('biomatch_gallery_tail_rows', labels))]);
  $('galleries').replaceChildren(table([['Gallery', ''], ['Subjects', 'number'], ['References', 'number'], ['Segments', 'number roomy'],
    ['Not sealed', 'number roomy']], rows, 'There is no gallery.'));
}

function drawWorkers(now) {
  const rows = now.all('biomatch_pool_threads').map(({ labels, value: threads }) => {
    const busy = now.one('biomatch_pool_busy', labels), waiting = now.one('biomatch_pool_waiting', labels);
    const down = labels.pool === 'face' ? now.one('biomatch_face_workers_down') : 0;
    return [labels.pool, [bar([0, busy / threads, ''], ...(down ? [[1 - down / threads, 1, 'bad']] : [])), 'range'],
      `${count(busy)} of ${count(threads)}`, [count(waiting), waiting ? 'warn' : ''], [count(down), down ? 'bad' : '']];
  });
  $('workers').replaceChildren(table([['Pool', ''], ['', ''], ['Busy', 'number'], ['Waiting', 'number'], ['Down', 'number']], rows, ''));
}

function drawStore(now) {
  const role = now.all('biomatch_role').find(({ value }) => value === 1)?.labels.role;
  const used = now.one('biomatch_store_used_bytes'), map = now.one('biomatch_store_map_bytes');
  const facts = [
    ['Audit log, last entry', `№ ${count(now.one('biomatch_audit_entries_total'))}`],
    ['Changes of galleries', count(now.one('biomatch_changes_total'))],
    ['Part', role ?? '–'],
    ['Writes', now.one('biomatch_store_read_only') ? 'refused until a restart' : 'taken'],
    ['Database', used === undefined ? '–' : `${bytes(used)} of ${bytes(map)}`],
    ['Commits', count(now.one('biomatch_writer_commits_total'))],
    ...now.all('biomatch_certificate_expiry_seconds').map(({ labels, value }) => [
      labels.certificate === 'server' ? 'Certificate ends in' : 'First client CA ends in', duration(value - now.time / 1000)]),
  ];
  $('store').replaceChildren(...facts.map(([name, value]) => element('div', '', element('dt', '', name), element('dd', '', value))));
}

function drawStatus(now, ready) {
  const build = now.all('biomatch_build_info')[0].labels;
  $('status').className = `badge ${ready.ready ? 'good' : 'bad'}`;
  $('status').textContent = ready.ready ? 'ready' : ready.reasons.join(', ');
  $('about').textContent = `${build.version} · ${build.model} · up ${duration(now.time / 1000 - now.one('process_start_time_seconds'))}`;
}

function chart(place, names, hues, data) {
  const style = getComputedStyle(document.documentElement);
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const axis = { stroke: style.getPropertyValue('--muted'), grid: { stroke: style.getPropertyValue('--line'), width: 1 },
    ticks: { show: false }, font: '12px system-ui, sans-serif' };
  place.replaceChildren();
  return new uPlot({
    width: place.clientWidth, height: 200, cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
    axes: [{ ...axis, size: 28, values: '{HH}:{mm}:{ss}', space: 80 }, { ...axis, size: 46, values: (_, ticks) => ticks.map(level.format) }],
    series: [{ value: '{HH}:{mm}:{ss}', label: 'at' }, ...names.map((name, i) => ({
      label: name, width: 2, stroke: `hsl(${hues[i]} ${dark ? '65% 66%' : '68% 40%'})`, spanGaps: true, points: { size: 4 },
      value: (_, v) => (v == null ? '–' : level.format(v)) }))],
  }, data, place);
}

function makeCharts() {
  charts = [
    chart($('calls'), ['answered', 'refused', 'failed'], [210, 40, 5], calls),
    chart($('stages'), STAGES, HUES, stages),
  ];
}

function addPoint(data, values) {
  data.forEach((column, i) => {
    column.push(values[i]);
    if (column.length > POINTS)
      column.shift();
  });
}

function drawCharts(before, now) {
  const seconds = (now.time - before.time) / 1000;
  const recent = changed(before, now, 'biomatch_rpcs_total');
  addPoint(calls, [now.time / 1000, recent.answered / seconds, recent.refused / seconds, recent.failed / seconds]);
  addPoint(stages, [now.time / 1000, ...STAGES.map((stage) => {
    const n = growth(before, now, 'biomatch_stage_seconds_count', { stage });
    return n ? 1000 * growth(before, now, 'biomatch_stage_seconds_sum', { stage }) / n : null;
  })]);
  charts.forEach((one, i) => {
    one.setData([calls, stages][i]);
    if (one.cursor.idx == null)
      one.setLegend({ idx: calls[0].length - 1 });
  });
}

function take(now) {
  const last = readings.at(-1), started = 'process_start_time_seconds';
  // Another life of the daemon counts from 0.
  if (last && last.one(started) !== now.one(started))
    readings.length = 0;
  readings.push(now);
  while (now.time - readings[0].time > MINUTE_MS)
    readings.shift();
  return readings.length > 1 ? readings.at(-2) : undefined;
}

async function turn() {
  try {
    const [metrics, ready] = await Promise.all(['metrics', 'readyz'].map((path) =>
      fetch(path, { signal: AbortSignal.timeout(5 * PERIOD_MS) })));
    const now = new Reading(await metrics.text(), Date.now()), previous = take(now), oldest = readings[0];
    drawStatus(now, await ready.json());
    drawFigures(oldest, now);
    drawEstate(oldest, now);
    drawDecisions(now);
    drawReasons(oldest, now);
    drawLiveFmr(now);
    drawGalleries(now);
    drawWorkers(now);
    drawStore(now);
    if (previous)
      drawCharts(previous, now);
    document.body.classList.remove('stale');
  } catch (error) {
    console.warn(error);
    document.body.classList.add('stale');
    $('status').className = 'badge bad';
    $('status').textContent = 'no answer';
  }
  setTimeout(turn, PERIOD_MS);
}

makeCharts();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', makeCharts);
addEventListener('resize', () => charts.forEach((one, i) => one.setSize({ width: [$('calls'), $('stages')][i].clientWidth, height: 200 })));
turn();
