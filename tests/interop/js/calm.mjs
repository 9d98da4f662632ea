// A small agent in JavaScript under the official SDK with its defaults; calm_agent.py says what it does.

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { detectResources, envDetector } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

const EXIT_CODE = 7;
const PROMPT = 'The customer asks where parcel NF-2026-00017 is and whether the invoice can be sent again. '.repeat(8);
const PACKAGES = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

const [steps, pause, report] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const secrets = JSON.parse(process.env.CALM_SECRETS);
const protocol = PACKAGES[process.env.OTEL_EXPORTER_OTLP_PROTOCOL];
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${protocol}`);
const provider = new NodeTracerProvider({
  resource: detectResources({ detectors: [envDetector] }),
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
});
provider.register();
const tracer = provider.getTracer('calm');

const input = createInterface({ input: process.stdin });
process.stdout.write('ready\n');
await new Promise(resolve => input.once('line', resolve));
input.close();
process.stdin.destroy();

const seconds = () => performance.now() / 1000;
const began = seconds();
let made = 0;
let longest = 0;
await tracer.startActiveSpan('invoke_agent calm', async root => {
  for (let number = 0; number < steps; number++) {
    await sleep(pause * 1000);
    const stepBegan = seconds();
    tracer.startActiveSpan('step', { attributes: { 'app.step': number } }, step => {
      for (const name of ['chat gpt-5-mini', 'execute_tool lookup']) {
        const span = tracer.startSpan(name);
        span.setAttribute('gen_ai.input.messages', `${PROMPT} ${secrets[number % secrets.length]}`);
        span.end();
      }
      step.end();
    });
    made += 3;
    process.stdout.write(`step ${number}: ${createHash('sha256').update(String(number)).digest('hex')}\n`);
    longest = Math.max(longest, seconds() - stepBegan);
  }
  root.end();
  made += 1;
});
const worked = seconds();
// As the SDK's guide has it: that telemetry could not be delivered does not concern the agent.
await provider.shutdown().catch(() => {});
const ended = seconds();
process.stdout.write('done\n');
writeFileSync(report, JSON.stringify({ made, work: worked - began, shutdown: ended - worked, longest_step: longest }));
// No process.exit: what the SDK leaves behind must not keep the agent alive.
process.exitCode = EXIT_CODE;
