// One Verify as another supplier's endpoint asks it: verify.mjs TARGET CA CERTIFICATE PURPOSE GALLERY SUBJECT PICTURE
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const require = createRequire(path.join(root, 'build/node/node_modules/any.js'));
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [target, ca, certificate, purpose, gallery, subject, picture] = process.argv.slice(2);
const api = grpc.loadPackageDefinition(loader.loadSync('biomatch/v1/matching_service.proto', {
  includeDirs: [path.join(root, 'proto'), '/usr/include'], keepCase: true, enums: String, defaults: true }));
const matching = new api.biomatch.v1.MatchingService(target, grpc.credentials.createSsl(
  readFileSync(ca), readFileSync(`${certificate}.key`), readFileSync(`${certificate}.pem`)));
matching.Verify({ purpose, gallery, subject_id: subject, probe: { image: { data: readFileSync(picture) } } },
  { deadline: Date.now() + 60000 }, (error, answer) => {
    matching.close();
    if (error) {
      console.error(error.message);
      process.exitCode = 1;
    } else {
      console.log(JSON.stringify(answer));
    }
  });
