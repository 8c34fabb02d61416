#!/usr/bin/env node
// The service as npm's @grpc/grpc-js sees it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '../..');
const modules = path.join(root, 'build/node/node_modules');
if (!existsSync(modules)) {
  console.log('build/node is missing; run scripts/setup');
  process.exit(77);
}
const require = createRequire(path.join(modules, 'any.js'));
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const daemon = spawn('/usr/bin/python3', ['-B', path.join(here, 'daemon_for.py'), process.argv[2] ?? 'build/release'],
  { stdio: ['pipe', 'pipe', 'inherit'] });
const ended = new Promise((resolve) => daemon.on('exit', resolve));
const [line] = await Promise.race([
  new Promise((resolve) => createInterface(daemon.stdout).once('line', (text) => resolve([text]))),
  ended.then(() => [null]),
]);
assert.ok(line, 'the daemon did not start');
const { target, pki, people, group } = JSON.parse(line);

const api = grpc.loadPackageDefinition(loader.loadSync(
  ['matching_service', 'enrolment_service', 'analysis_service', 'admin_service'].map((n) => `biomatch/v1/${n}.proto`)
    .concat('grpc/health/v1/health.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'),
  { includeDirs: [path.join(root, 'proto'), '/usr/include'], keepCase: true, enums: String, defaults: true }));
const read = (file) => readFileSync(file);
const credentials = grpc.credentials.createSsl(
  read(`${pki}/ca.pem`), read(`${pki}/lane.key`), read(`${pki}/lane.pem`));
const client = (name) => new api.biomatch.v1[name](target, credentials);
const matching = client('MatchingService');
const enrolment = client('EnrolmentService');
const analysis = client('AnalysisService');
const soon = () => ({ deadline: Date.now() + 60000 });
const ask = (on, method, request, options = soon()) => new Promise((resolve, reject) => {
  on[method](request, options, (error, answer) => (error ? reject(error) : resolve(answer)));
});
const picture = (file) => ({ image: { data: read(file) } });
const ada = [`${people}/ada/01.jpg`, `${people}/ada/02.jpg`];
const verify = (subject, probe, options) =>
  ask(matching, 'Verify', { purpose: 'gate', gallery: 'people', subject_id: subject, probe }, options);

// ErrorInfo's reason out of grpc-status-details-bin: its first field, the first field of the detail's value.
function reasonOf(error) {
  const details = error.metadata.get('grpc-status-details-bin')[0];
  assert.ok(details, 'no details');
  return /ErrorInfo\x12.\n.([A-Z_]+)\x12/s.exec(details.toString('latin1'))[1];
}

const tests = {
  async mainJob() {
    const stored = await ask(enrolment, 'Enrol', { purpose: 'gate', request_id: 'js-1', gallery: 'people',
      subject_id: 'ada', reference: picture(ada[0]), encounter: { encounter_type: 'registration', site: 'hall' } });
    assert.equal(stored.outcome, 'ENROL_OUTCOME_CREATED');
    const mate = await verify('ada', picture(ada[1]));
    assert.equal(mate.decision, 'DECISION_MATCH');
    assert.ok(mate.raw.score > mate.raw.threshold);
    const crowd = await verify('ada', picture(group));
    assert.deepEqual([crowd.decision, crowd.reason], ['DECISION_REFER', 'REASON_SEVERAL_FACES']);
    const found = await ask(matching, 'Identify', { purpose: 'gate', galleries: ['people'], probe: picture(ada[1]) });
    assert.deepEqual(found.candidates.map((c) => c.subject_id), ['ada']);
    const same = await ask(matching, 'Compare',
      { purpose: 'gate', probe: picture(ada[0]), reference: picture(ada[1]) });
    assert.equal(same.decision, 'DECISION_MATCH');
    const { template } = await ask(analysis, 'Extract', { purpose: 'gate', image: { data: read(ada[1]) } });
    assert.equal((await verify('ada', { template })).decision, 'DECISION_MATCH');
    const subject = await ask(enrolment, 'GetSubject', { purpose: 'gate', gallery: 'people', subject_id: 'ada' });
    assert.deepEqual(subject.encounters.map((e) => e.site), ['hall']);
  },
  async errorsSayWhy() {
    const refused = async (code, reason, promise) => {
      const error = await promise.then(() => assert.fail('not refused'), (e) => e);
      assert.equal(error.code, code, error.message);
      assert.equal(reasonOf(error), reason);
      assert.ok(error.details.length > 10);
    };
    await refused(grpc.status.PERMISSION_DENIED, 'PURPOSE_UNKNOWN',
      ask(matching, 'Verify', { purpose: 'spying', gallery: 'people', subject_id: 'x', probe: picture(ada[0]) }));
    await refused(grpc.status.INVALID_ARGUMENT, 'IMAGE_FORMAT',
      verify('x', { image: { data: Buffer.from('this is no picture, whatever its name') } }));
    await refused(grpc.status.NOT_FOUND, 'GALLERY_UNKNOWN',
      ask(matching, 'Identify', { purpose: 'gate', galleries: ['others'], probe: picture(ada[0]) }));
  },
  async deadlineAndCancellation() {
    const late = await verify('x', picture(ada[0]), { deadline: Date.now() + 1 }).then(() => null, (e) => e);
    assert.equal(late?.code, grpc.status.DEADLINE_EXCEEDED);
    const cancelled = await new Promise((resolve) => {
      const call = matching.Verify({ purpose: 'gate', gallery: 'people', subject_id: 'x', probe: picture(ada[0]) },
        soon(), (error) => resolve(error));
      setImmediate(() => call.cancel());
    });
    assert.equal(cancelled?.code, grpc.status.CANCELLED);
  },
  async manyAtOnce() {
    const answers = await Promise.all(Array.from({ length: 32 }, () => verify('nobody', picture(ada[0]))));
    assert.ok(answers.every((a) => a.reason === 'REASON_NO_REFERENCE'));
  },
  async healthWatch() {
    const health = new api.grpc.health.v1.Health(target, credentials);
    const watch = health.Watch({ service: 'biomatch.v1.MatchingService' });
    const first = await new Promise((resolve, reject) => watch.once('data', resolve).once('error', reject));
    assert.equal(first.status, 'SERVING');
    watch.on('error', () => {});
    watch.cancel();
    health.close();
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${name}: ${error.stack}`);
  }
}
for (const c of [matching, enrolment, analysis]) c.close();
daemon.stdin.end();
assert.equal(await ended, 0, 'the daemon did not end cleanly');
process.exit(failed ? 1 : 0);
