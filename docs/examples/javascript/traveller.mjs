#!/usr/bin/env node
// An endpoint of biomatchd: enrols a traveller, then verifies captures until there is a decision.
//
//     traveller.mjs TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...
//
// TARGETS    addresses separated by commas, the leader's first
// CA         the CAs that sign the service's certificates, PEM
// ENDPOINT   ENDPOINT.pem and ENDPOINT.key are this endpoint's certificate and its key
// REFERENCE  the picture to enrol
// CAPTURE    what the camera gives: the next one is taken where the service asks for another picture
//
// PROTOS names the directory of the .proto files. Exits with 0 for a match, 2 for none, 3 where an officer decides. Every
// other status means that nothing was decided: 1 is what a crash gives, and must not be taken for an answer.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const ONE_TRY = 5000; // milliseconds until a try is given up
const ALL_TRIES = 15000; // milliseconds until the call is
const OPTIONS = {
  'grpc.enable_retries': 0, // Service.call knows better
  'grpc.keepalive_time_ms': 20000, // finds a dead connection before the next traveller does
  'grpc.keepalive_timeout_ms': 5000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2000,
};

// What the person before the camera can mend. Every other reason is for an officer.
const RETAKE = {
  NO_FACE: 'look into the camera',
  SEVERAL_FACES: 'one person at a time',
  FACE_TOO_SMALL: 'come closer',
  FACE_INCOMPLETE: 'stand in the middle',
  LOW_QUALITY: 'hold still, face the camera, mind the light',
  FRAMES_DIFFER: 'one person at a time',
};

const api = grpc.loadPackageDefinition(loader.loadSync(
  ['biomatch/v1/enrolment_service.proto', 'biomatch/v1/matching_service.proto', 'grpc/health/v1/health.proto',
    'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  { includeDirs: [process.env.PROTOS ?? 'proto'], keepCase: true, enums: String, longs: String, defaults: true }));

// Nothing was decided. Never to be taken for NO_MATCH: the gate stays shut and an officer comes.
class Fault extends Error {
  reason = '';
  field = '';
  wait = 0;

  constructor(error) {
    super(error.details);
    this.code = error.code;
    const [status] = error.metadata?.get('grpc-status-details-bin') ?? [];
    for (const detail of status ? api.google.rpc.Status.deserialize(status).details : []) this.read(detail);
  }

  read({ type_url: url, value }) {
    const name = url.split('.').at(-1);
    if (name === 'ErrorInfo') {
      this.reason = api.google.rpc.ErrorInfo.deserialize(value).reason;
    } else if (name === 'RetryInfo') {
      const { seconds, nanos } = api.google.rpc.RetryInfo.deserialize(value).retry_delay;
      this.wait = Number(seconds) * 1000 + nanos / 1e6;
    } else if (name === 'BadRequest') {
      this.field = api.google.rpc.BadRequest.deserialize(value).field_violations[0].field;
    }
  }

  // Whether the same request may be answered a moment later, or at another address.
  get passing() {
    if (this.code === grpc.status.RESOURCE_EXHAUSTED) {
      return ['', 'OVERLOADED', 'OUT_OF_MEMORY'].includes(this.reason);
    }
    return [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED].includes(this.code)
      || this.reason === 'FOLLOWS_ANOTHER';
  }
}

// The service at one of several addresses, with this endpoint's certificate.
class Service {
  chosen = new Map(); // a server for each of the service's gRPC services

  constructor(targets, ca, endpoint) {
    const credentials = grpc.credentials.createSsl(
      readFileSync(ca), readFileSync(`${endpoint}.key`), readFileSync(`${endpoint}.pem`));
    this.servers = targets.split(',').map((target) => new Map([
      ['EnrolmentService', api.biomatch.v1.EnrolmentService],
      ['MatchingService', api.biomatch.v1.MatchingService],
      ['Health', api.grpc.health.v1.Health],
    ].map(([name, Client]) => [name, new Client(target, credentials, OPTIONS)])));
  }

  close() {
    for (const server of this.servers) for (const client of server.values()) client.close();
  }

  // Calls until there is an answer. The request has to bear repetition: a write its request_id.
  async call(name, method, request) {
    const end = Date.now() + ALL_TRIES;
    for (let pause = 200; ;) {
      try {
        return await this.once(name, method, request, Math.min(ONE_TRY, end - Date.now()));
      } catch (fault) {
        if (!(fault instanceof Fault)) throw fault;
        pause = fault.wait ? Math.max(pause, fault.wait) : Math.min(pause * 2, 5000);
        const wait = pause * (1 + Math.random() / 2); // so that a hall full of kiosks does not come back as one
        if (!fault.passing || Date.now() + wait > end) throw fault;
        await sleep(wait);
      }
    }
  }

  async once(name, method, request, timeout) {
    try {
      if (!this.chosen.has(name)) this.chosen.set(name, await this.serving(name));
      return await unary(this.chosen.get(name).get(name), method, request, timeout);
    } catch (error) {
      this.chosen.delete(name);
      throw new Fault(error);
    }
  }

  // The first address whose health says that it serves: for enrolments, that is the leader.
  async serving(name) {
    for (const server of this.servers) {
      const service = `biomatch.v1.${name}`;
      const health = await unary(server.get('Health'), 'Check', { service }, 1000).catch(() => null);
      if (health?.status === 'SERVING') return server;
    }
    return this.servers[0]; // whose own error then says what is wrong
  }
}

function unary(client, method, request, timeout) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: Date.now() + timeout },
      (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

const picture = (path) => ({ image: { data: readFileSync(path) } });

// The proof that the answer is in the audit log, as `biomatch audit prove` takes it. Keep it with the case.
function receipt({ receipt: entry }) {
  if (!entry || entry.sequence === '0' || entry.hash.length !== 32) throw new Error('an answer without a receipt');
  return `${entry.sequence}:${entry.hash.toString('hex')}`;
}

// The name of a reason; the number of one that is newer than the protos at hand, which is for an officer, too.
const nameOf = (reason) => String(reason).replace('REASON_', '');

async function enrol(service, purpose, gallery, subject, path) {
  // Made before the first try and kept through all of them: a repeat returns the first answer. A standby that took the
  // lead in between does not know it, but finds the encounter of this name there.
  const id = randomUUID();
  const request = { purpose, request_id: id, gallery, subject_id: subject, encounter: { encounter_id: id },
    reference: picture(path) };
  try {
    const answer = await service.call('EnrolmentService', 'Enrol', request);
    const outcome = answer.outcome.replace('ENROL_OUTCOME_', '');
    console.log('enrolled', outcome, ...(answer.reason === 'REASON_UNSPECIFIED' ? [] : [nameOf(answer.reason)]), receipt(answer));
  } catch (fault) {
    if (fault.reason !== 'ALREADY_EXISTS') throw fault;
    console.log('enrolled before');
  }
}

// The exit status of the first decision that is not a request for another picture.
async function verify(service, purpose, gallery, subject, captures) {
  for (const path of captures) {
    const answer = await service.call('MatchingService', 'Verify',
      { purpose, gallery, subject_id: subject, probe: picture(path) });
    const decision = answer.decision.replace('DECISION_', '');
    if (decision !== 'REFER') {
      console.log('verified', decision, receipt(answer));
      return { MATCH: 0, NO_MATCH: 2 }[decision] ?? 4;
    }
    const reason = nameOf(answer.reason);
    console.log('verified', decision, reason, receipt(answer));
    if (!RETAKE[reason]) break;
    console.log(RETAKE[reason]);
  }
  console.log('an officer decides');
  return 3;
}

async function main(targets, ca, endpoint, purpose, gallery, subject, reference, ...captures) {
  const service = new Service(targets, ca, endpoint);
  try {
    await enrol(service, purpose, gallery, subject, reference);
    return await verify(service, purpose, gallery, subject, captures);
  } catch (fault) {
    if (!(fault instanceof Fault)) throw fault;
    console.error('fault', grpc.status[fault.code], fault.reason || '-', fault.field || '-', fault.message);
    return 4;
  } finally {
    service.close();
  }
}

if (process.argv.length < 10) {
  console.error('traveller.mjs TARGETS CA ENDPOINT PURPOSE GALLERY SUBJECT REFERENCE CAPTURE...');
  process.exitCode = 64;
} else {
  process.exitCode = await main(...process.argv.slice(2));
}
