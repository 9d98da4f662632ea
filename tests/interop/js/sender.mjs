// The official JavaScript SDK with its official OTLP exporters, every batch sent twice: to the gateway and, as the
// control copy, to the backend directly. Both copies come from the same SDK objects, so ids and times are equal.
//
// A case is described by one JSON document on standard input (see js_cases.py); the answer is one on standard output.

import { diag, DiagLogLevel } from '@opentelemetry/api';
import { CompressionAlgorithm } from '@opentelemetry/otlp-exporter-base';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationTemporality, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

const BATCH = 64;
const SUCCESS = 0;
// Which package speaks what; the names are the SDK's.
const PACKAGES = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };
// The gRPC exporter says so whenever a client has no certificate of its own, which TLS does not ask for.
const NO_OWN_CERTIFICATE = 'Client key and certificate must both be provided, but one was missing';

export async function question() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}

export function answer(value) {
  process.stdout.write(JSON.stringify(value) + '\n');
}

/** The exporters of one endpoint; `transport` as in OTEL_EXPORTER_OTLP_PROTOCOL, `compression` none or gzip. */
export async function exporters(transport, compression, endpoint) {
  const common = {};
  // Told nothing about compression, the exporters must not compress.
  if (compression === 'gzip') common.compression = CompressionAlgorithm.GZIP;
  const load = async signal => import(`@opentelemetry/exporter-${signal}-otlp-${PACKAGES[transport]}`);
  const target = signal => ({ ...common, url: transport === 'grpc' ? endpoint.grpc : `${endpoint.http}/v1/${signal}` });
  const { OTLPTraceExporter } = await load('trace');
  const { OTLPLogExporter } = await load('logs');
  const { OTLPMetricExporter } = await load('metrics');
  return {
    traces: new OTLPTraceExporter(target('traces')),
    logs: new OTLPLogExporter(target('logs')),
    metrics: new OTLPMetricExporter({
      ...target('metrics'),
      temporalityPreference: AggregationTemporality.CUMULATIVE,
    }),
  };
}

class Tee {
  constructor(signal, targets, tally, count) {
    Object.assign(this, { signal, targets, tally, count });
  }

  export(items, done) {
    let open = this.targets.length;
    this.tally.sent[this.signal] += this.count(items);
    this.targets.forEach((target, index) =>
      target.export(items, result => {
        if (result.code !== SUCCESS) {
          const who = ['control copy', 'gateway'][index];
          this.tally.faults.push(`${this.signal}: export to the ${who} failed: ${result.error?.message}`);
        }
        open -= 1;
        if (open === 0) done({ code: SUCCESS });
      }),
    );
  }

  async forceFlush() {}

  async shutdown() {
    await Promise.all(this.targets.map(each => each.shutdown()));
  }

  selectAggregationTemporality(kind) {
    return this.targets[0].selectAggregationTemporality(kind);
  }
}

const points = metrics =>
  metrics.scopeMetrics.flatMap(scope => scope.metrics).reduce((sum, metric) => sum + metric.dataPoints.length, 0);

/** Providers for the three signals. After `finish()` everything was exported; `tally` says how that went. */
export async function sender({ transport, compression, control, gateway, resource }, views = []) {
  const tally = { sent: { traces: 0, logs: 0, metrics: 0 }, faults: [] };
  // What the SDK and its exporters log is a fault: they log only what went wrong.
  const fault = (message, ...more) => {
    const line = [message, ...more].join(' ');
    if (!line.startsWith(NO_OWN_CERTIFICATE)) tally.faults.push(`SDK log: ${line}`.slice(0, 300));
  };
  const silent = () => {};
  diag.setLogger({ error: fault, warn: fault, info: silent, debug: silent, verbose: silent }, DiagLogLevel.WARN);
  const targets = [];
  for (const each of [control, gateway]) targets.push(await exporters(transport, compression, each));
  const tee = (signal, count) => new Tee(signal, targets.map(each => each[signal]), tally, count);
  const described = { resource: resourceFromAttributes(resource) };
  const traces = new NodeTracerProvider({
    ...described,
    spanProcessors: [new BatchSpanProcessor(tee('traces', each => each.length), { maxExportBatchSize: BATCH })],
  });
  const logs = new LoggerProvider({
    ...described,
    processors: [
      new BatchLogRecordProcessor({ exporter: tee('logs', each => each.length), maxExportBatchSize: BATCH }),
    ],
  });
  // Collects at shutdown only: a second collection would send the cumulative points again.
  const reader = new PeriodicExportingMetricReader({ exporter: tee('metrics', points), exportIntervalMillis: 2 ** 30 });
  const metrics = new MeterProvider({ ...described, readers: [reader], views });
  async function finish() {
    await traces.shutdown();
    await logs.shutdown();
    await metrics.shutdown();
  }
  return { traces, logs, metrics, tally, finish };
}
