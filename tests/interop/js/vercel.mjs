// The Vercel AI SDK with its own OpenTelemetry integration (GenAI semantic conventions) plays the story: one turn with
// generateText, one streamed. The texts, and the model they go to, come from js_cases.py.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { OpenTelemetry } from '@ai-sdk/otel';
import { generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';

import { answer, question, sender } from './sender.mjs';

const asked = await question();
const { story, model } = asked;
const providers = await sender({ ...asked, resource: { 'service.name': 'support-agent', 'service.version': '1.4.0' } });
providers.traces.register();

const anything = properties => jsonSchema({ type: 'object', properties, required: Object.keys(properties) });
const tools = {
  track_parcel: tool({
    description: 'Where a parcel is.',
    inputSchema: anything({ parcel: { type: 'string' }, headers: { type: 'object' } }),
    execute: async () => story.result,
  }),
  query_ledger: tool({
    description: 'Rows of the ledger.',
    inputSchema: anything({ query: { type: 'string' } }),
    execute: async () => {
      throw new Error(story.failure);
    },
  }),
};
const provider = createOpenAICompatible({ name: 'scripted', baseURL: model, apiKey: 'unused' });
const telemetry = {
  isEnabled: true,
  recordInputs: true,
  recordOutputs: true,
  functionId: 'support',
  metadata: { tenant: 'interop' },
  integrations: [new OpenTelemetry({ tracer: providers.traces.getTracer('ai') })],
};
const common = {
  model: provider('gpt-5-mini'),
  system: story.system,
  tools,
  stopWhen: stepCountIs(4),
  maxRetries: 0,
  telemetry,
};
const first = await generateText({ ...common, prompt: story.ask[0] });
const messages = [
  { role: 'user', content: story.ask[0] },
  { role: 'assistant', content: first.text },
  { role: 'user', content: story.ask[1] },
];
const second = streamText({ ...common, messages });
let text = '';
for await (const part of second.textStream) text += part;
const faults = [];
if (first.text !== story.answers[0] || text !== story.answers[1]) faults.push('harness: the agent said something else');
await providers.finish();
answer({ sent: providers.tally.sent, faults: [...faults, ...providers.tally.faults] });
