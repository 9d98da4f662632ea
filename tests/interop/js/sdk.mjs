// What the official JavaScript SDK is made to say: all three signals, with a planted value in every place that can hold
// text. The texts come from js_cases.py, which knows what must not survive.

import { context, SpanKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { TraceState } from '@opentelemetry/core';
import { AggregationType } from '@opentelemetry/sdk-metrics';

import { answer, question, sender } from './sender.mjs';

const asked = await question();
const { every, any, token, named, harmless, forged, filler, sequence } = asked.content;
const taken = { any: 0, token: 0 };
const nextAny = () => any[taken.any++];
const nextToken = () => token[taken.token++];
const created = { traces: 0, logs: 0, metrics: 0 };

const views = [
  {
    instrumentName: 'interop.exponential',
    aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM },
  },
];
const resource = {
  'service.name': 'refund-agent-js',
  'service.version': '2.7.1',
  'process.command_args': ['node', 'agent.mjs', `--api-key=${nextToken()}`],
  'app.deploy.note': `rotated on Monday, was ${nextAny()} before`,
  ...forged,
};
const providers = await sender({ ...asked, resource }, views);
context.disable();
providers.traces.register();

function longText(size) {
  const half = filler.repeat(Math.floor(size / filler.length / 2));
  return `${named.first} ${half}\n${named.pem}\n${half}${named.last}`;
}

function span(tracer, name, work, options = {}, parent = context.active()) {
  created.traces += 1;
  return tracer.startActiveSpan(name, options, parent, current => {
    try {
      return work(current);
    } finally {
      current.end();
    }
  });
}

function traces() {
  const tracer = providers.traces.getTracer(`refund.agent ${nextToken()}`, `1.0+${nextToken()}`, {
    schemaUrl: 'https://opentelemetry.io/schemas/1.36.0',
  });
  const plain = providers.traces.getTracer('plain.scope', '2.0');
  const parent = trace.setSpanContext(context.active(), {
    traceId: '5b8aa5a2d2c872e8321cf37308d69df2',
    spanId: '5fb397be34d26b51',
    isRemote: true,
    traceFlags: TraceFlags.SAMPLED,
    traceState: new TraceState(`vendor=${named.state},congo=t61rcWkgMzE`),
  });
  span(
    tracer,
    `invoke_agent ${nextAny()}`,
    root => {
      root.setAttributes(harmless);
      for (const [kind, text] of Object.entries(every)) everyKind(tracer, kind, text);
      attributeTypes(tracer);
      keys(tracer);
      events(tracer);
      links(tracer, root.spanContext());
      keyContext(tracer);
      span(tracer, 'status', each => {
        each.setStatus({ code: SpanStatusCode.ERROR, message: `refused: ${nextAny()} (code 7)` });
      });
      span(plain, 'large prompt', each => each.setAttribute('gen_ai.input.messages', longText(300_000)));
      for (let number = 0; number < 40; number++) {
        const attributes = { ...harmless, 'app.step': number };
        span(plain, `step ${number}`, () => {}, { kind: SpanKind.CLIENT, attributes });
      }
    },
    { kind: SpanKind.SERVER },
    parent,
  );
}

function everyKind(tracer, kind, text) {
  span(tracer, `execute_tool ${kind}`, each => {
    each.setAttribute('gen_ai.tool.call.result', `${filler}\n${text}\n${filler}`);
    each.setAttribute('gen_ai.tool.name', 'lookup');
    const once = JSON.stringify({ tool: 'lookup', note: text, turn: 3 });
    each.setAttribute('gen_ai.tool.call.arguments', once);
    each.setAttribute('gen_ai.output.messages', JSON.stringify([{ parts: [{ arguments: once }], n: 1 }]));
  });
}

function attributeTypes(tracer) {
  span(tracer, 'attribute types', each => {
    each.setAttribute('t.string', `before ${nextAny()} after`);
    each.setAttribute('t.whole', nextToken());
    each.setAttribute('t.strings', ['clean', `x ${nextAny()} y`, '', nextToken(), null, 'clean']);
    each.setAttribute('t.json', `{"arguments": "{\\"note\\": \\"${nextToken()}\\"}"}`);
    each.setAttributes(forged);
    each.setAttribute('t.ints', [1, 2, 3]);
    each.setAttribute('t.floats', [0.5, 1.5e-300, -0.25]);
    // Whole numbers all, and so `intValue`.
    each.setAttribute('t.large', [1e19, 1e300, -(2 ** 62)]);
    // JSON has no word for these: they go out as null.
    each.setAttribute('t.odd', [NaN, Infinity, -Infinity]);
    each.setAttribute('t.nan', NaN);
    each.setAttribute('t.flags', [true, false]);
    // A text that was cut within a character.
    each.setAttribute('t.cut', `${'\u{1f69a}'.slice(0, 1)} ${nextAny()}`);
    each.setAttribute('t.two', `${nextAny()} and ${nextAny()}`);
  });
}

function keys(tracer) {
  span(tracer, 'attribute keys', each => {
    each.setAttribute(`http.request.header.${nextToken()}`, 'value of a strange header');
    each.addEvent('keys', { [`k.${nextToken()}`]: 7 });
  });
}

function events(tracer) {
  span(tracer, 'events', each => {
    each.addEvent(`gen_ai.choice ${nextAny()}`, { content: nextAny(), ...forged, ...harmless });
    each.recordException(new RangeError(`401 for ${nextAny()}`));
    // What the exception holds besides its text is in the stack.
    each.recordException({ name: 'Fault', message: `no such key ${nextToken()}`, stack: `Fault: at ${nextToken()}` });
  });
}

function links(tracer, target) {
  const attributes = { 'link.note': nextAny(), 'link.n': 1, ...forged };
  span(tracer, 'links', each => each.setAttribute('app.flag', false), {
    links: [{ context: target, attributes }, { context: target }],
  });
}

/** Values that nothing but their key gives away. */
function keyContext(tracer) {
  span(tracer, 'key context', each => {
    each.setAttribute('db.password', named['key:password']);
    each.setAttribute('http.request.header.authorization', [named['key:authorization']]);
    each.setAttribute('http.request.header.x-api-key', [named['key:x-api-key']]);
  });
}

function logs() {
  const logger = providers.logs.getLogger(`agent.log ${nextToken()}`, '1.0');
  const log = (body, attributes = {}, fields = {}) => {
    created.logs += 1;
    logger.emit({
      severityNumber: SeverityNumber.INFO,
      severityText: 'INFO',
      body,
      attributes: { [sequence]: created.logs, ...attributes },
      ...fields,
    });
  };
  for (const text of Object.values(every)) log(`tool said: ${text} and then stopped`);
  log({ role: 'tool', content: [{ text: nextAny() }, 7, null, 2.5, true], k: nextAny() });
  log(['clean', `in a list ${nextAny()}`]);
  log(new TextEncoder().encode(`bytes ${nextToken()}`));
  log(Uint8Array.from({ length: 256 }, (_, index) => index));
  log(undefined, { only: `attribute ${nextAny()}` });
  log(42, forged);
  log('map', { 't.map': { role: 'user', parts: [{ type: 'text', content: nextAny() }] } });
  log('key in a map', { 't.map': { [nextToken()]: 1 } });
  log('own name in a map', { 't.map.own': { 'tracegate.tenant': 'data of the client' } });
  log('an event', {}, { eventName: `gen_ai.event.${nextToken()}` });
  log('severity text', {}, { severityText: `WARN ${nextToken()}` });
  log({ password: named['key:body-password'], user: 'svc' });
  log('it failed', {}, { exception: new TypeError(`bad input ${nextAny()}`) });
  log(longText(100_000));
  for (let number = 0; number < 20; number++) log(`step ${number} done`, harmless);
}

function metrics() {
  const meter = providers.metrics.getMeter(`agent.meter ${nextToken()}`, '1.0');
  const series = attributes => ({ [sequence]: ++created.metrics, ...attributes });
  const counter = meter.createCounter('agent.calls', { unit: '{call}', description: `calls made with ${nextAny()}` });
  for (const text of Object.values(every)) counter.add(1, series({ 'tool.argument': text, ...harmless }));
  meter.createCounter(`calls.${named.name}`).add(2.5, series({}));
  meter.createUpDownCounter('agent.open').add(-3, series({ note: nextAny(), ...forged }));
  meter.createGauge('agent.level').record(0.5, series({ notes: ['clean', nextToken()] }));
  meter.createHistogram('agent.latency', { unit: 's' }).record(0.25, series({ user: named.email }));
  meter.createHistogram('interop.exponential').record(12, series({ key: nextToken() }));
  const observed = series({ note: nextAny() });
  meter.createObservableGauge('agent.observed').addCallback(result => result.observe(7, observed));
}

traces();
logs();
metrics();
await providers.finish();
answer({ created, sent: providers.tally.sent, faults: providers.tally.faults, taken });
