// OpenAI's SDK for Node: chat and Responses.
import { MODEL, NO_MODEL, WEATHER, check, collect, count, hello, messageOf, run, weather } from "./checks.mjs";
import { client } from "./configuration.mjs";

const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const user = (content) => [{ role: "user", content }];

check("chat.answer", async () => {
  const completion = await client.chat.completions.create({ model: MODEL, messages: user(hello("chat.answer")) });
  return completion.choices[0].message.content;
});

check("chat.stream", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages: user(count("chat.stream")) });
  const pieces = [];
  stream.on("content", (delta) => pieces.push(delta));
  await stream.done();
  return pieces;
});

check("chat.tools", async () => {
  const runner = client.chat.completions.runTools({
    model: MODEL,
    messages: user(weather("chat.tools")),
    tools: [
      {
        type: "function",
        function: { name: "get_weather", parameters: PARAMETERS, parse: JSON.parse, function: () => WEATHER },
      },
    ],
  });
  return await runner.finalContent();
});

check("chat.error", () =>
  messageOf(() => client.chat.completions.create({ model: NO_MODEL, messages: user(hello("chat.error")) })),
);

check("responses.answer", async () => {
  return (await client.responses.create({ model: MODEL, input: hello("responses.answer") })).output_text;
});

check("responses.stream", async () => {
  const events = await collect(client.responses.stream({ model: MODEL, input: count("responses.stream") }));
  return events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
});

async function responsesTools(tag, fields = {}) {
  const tools = [{ type: "function", name: "get_weather", parameters: PARAMETERS, strict: false }];
  const input = user(weather(tag));
  const first = await client.responses.create({ model: MODEL, input, tools, ...fields });
  const call = first.output.find((item) => item.type === "function_call");
  input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: WEATHER });
  return (await client.responses.create({ model: MODEL, input, tools, ...fields })).output_text;
}

check("responses.tools", () => responsesTools("responses.tools"));
check("responses.encrypted", () =>
  responsesTools("responses.encrypted", { store: false, include: ["reasoning.encrypted_content"] }),
);
check("responses.error", () =>
  messageOf(() => client.responses.create({ model: NO_MODEL, input: hello("responses.error") })),
);

await run();
