// Vercel's AI SDK with its providers openai (Responses and chat), openai-compatible and anthropic.
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { NO_MODEL, WEATHER, check, collect, count, hello, messageOf, run, weather } from "./checks.mjs";
import { anthropic, compatible, openai } from "./configuration.mjs";

const MODEL = "demo";
const tools = {
  get_weather: tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: () => WEATHER,
  }),
};
const models = {
  responses: (name) => openai.responses(name),
  chat: (name) => compatible(name),
  messages: (name) => anthropic(name),
};

for (const [api, model] of Object.entries(models)) {
  check(`${api}.answer`, async () => {
    return (await generateText({ model: model(MODEL), prompt: hello(`${api}.answer`) })).text;
  });
  check(`${api}.stream`, () => collect(streamText({ model: model(MODEL), prompt: count(`${api}.stream`) }).textStream));
  check(`${api}.tools`, async () => {
    const prompt = weather(`${api}.tools`);
    const providerOptions = { anthropic: { thinking: { type: "adaptive" } } };
    return (await generateText({ model: model(MODEL), tools, stopWhen: stepCountIs(3), prompt, providerOptions })).text;
  });
  check(`${api}.error`, () =>
    messageOf(() => generateText({ model: model(NO_MODEL), prompt: hello(`${api}.error`), maxRetries: 0 })),
  );
}

check("responses.encrypted", async () => {
  const { text } = await generateText({
    model: openai.responses(MODEL),
    tools,
    stopWhen: stepCountIs(3),
    prompt: weather("responses.encrypted"),
    providerOptions: { openai: { store: false, forceReasoning: true } },
  });
  return text;
});

check("responses.summary", async () => {
  const { reasoningText } = await generateText({
    model: openai.responses(MODEL),
    prompt: hello("responses.summary"),
    providerOptions: { openai: { forceReasoning: true, reasoningSummary: "auto" } },
  });
  return reasoningText;
});

check("chat.preamble", async () => {
  const { steps } = await generateText({
    model: compatible(MODEL),
    tools,
    stopWhen: stepCountIs(3),
    prompt: weather("chat.preamble"),
  });
  return steps[0].text;
});

await run();
