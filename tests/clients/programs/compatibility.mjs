// Tool calls of many shapes through @openai/agents, as OpenAI's compatibility test of gpt-oss servers does: each is made
// once with arguments of the tool's schema, and reasoning is where that test looks for it, whole and in a stream.
import { readFileSync } from "node:fs";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, tool } from "@openai/agents";
import { MODEL, check, run } from "./checks.mjs";
import { client } from "./configuration.mjs";

const cases = JSON.parse(readFileSync(new URL("./cases.json", import.meta.url)));
const models = {
  chat: new OpenAIChatCompletionsModel(client, MODEL),
  responses: new OpenAIResponsesModel(client, MODEL),
};

function agentFor({ tool: name, parameters }, calls) {
  const execute = (input) => {
    calls.push(input);
    return "done";
  };
  return new Agent({
    name,
    instructions: "Use the tool.",
    tools: [tool({ name, description: "Does it.", parameters, strict: true, execute })],
  });
}

const reasonings = {
  chat: (response) => response.choices[0].message.reasoning,
  responses: (response) =>
    response.output
      .filter((item) => item.type === "reasoning")
      .flatMap((item) => item.content.map((part) => part.text))
      .join(""),
};
const streamed = {
  chat: (event) => event.choices?.[0]?.delta?.reasoning ?? "",
  responses: (event) => (event.type === "response.reasoning_text.delta" ? event.delta : ""),
};

for (const [api, model] of Object.entries(models)) {
  cases.forEach((each, number) => {
    check(`${api}.${number}`, async () => {
      const calls = [];
      const runner = new Runner({ model, tracingDisabled: true });
      const result = await runner.run(agentFor(each, calls), each.input, { maxTurns: 10 });
      const reasoning = reasonings[api](result.rawResponses[0].providerData);
      return { calls, reasoning, answer: result.finalOutput };
    });
    check(`${api}.${number}.stream`, async () => {
      const calls = [];
      const runner = new Runner({ model, tracingDisabled: true });
      const result = await runner.run(agentFor(each, calls), each.input, { maxTurns: 10, stream: true });
      let reasoning = "";
      for await (const event of result) {
        if (event.type === "raw_model_stream_event" && event.data.type === "model") {
          reasoning += streamed[api](event.data.event);
        }
      }
      await result.completed;
      return { calls, reasoning, answer: result.finalOutput };
    });
  });
}

await run();
