// OpenAI's Agents SDK for Node: chat and Responses.
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, tool } from "@openai/agents";
import { z } from "zod";
import { MODEL, NO_MODEL, WEATHER, check, collect, count, hello, messageOf, run, weather } from "./checks.mjs";
import { client } from "./configuration.mjs";

const getWeather = tool({
  name: "get_weather",
  description: "The weather of a city.",
  parameters: z.object({ city: z.string() }),
  execute: () => WEATHER,
});
const runner = new Runner({ tracingDisabled: true });
const kinds = { chat: OpenAIChatCompletionsModel, responses: OpenAIResponsesModel };

function agent(api, model = MODEL, modelSettings = {}) {
  return new Agent({ name: "Helper", model: new kinds[api](client, model), tools: [getWeather], modelSettings });
}

for (const api of Object.keys(kinds)) {
  check(`${api}.answer`, async () => (await runner.run(agent(api), hello(`${api}.answer`))).finalOutput);
  check(`${api}.stream`, async () => {
    const result = await runner.run(agent(api), count(`${api}.stream`), { stream: true });
    return await collect(result.toTextStream());
  });
  check(`${api}.tools`, async () => (await runner.run(agent(api), weather(`${api}.tools`))).finalOutput);
  check(`${api}.error`, () => messageOf(() => runner.run(agent(api, NO_MODEL), hello(`${api}.error`))));
}

check("responses.encrypted", async () => {
  const settings = { store: false, providerData: { include: ["reasoning.encrypted_content"] } };
  return (await runner.run(agent("responses", MODEL, settings), weather("responses.encrypted"))).finalOutput;
});

await run();
