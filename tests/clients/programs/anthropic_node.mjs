// Anthropic's SDK for Node: Messages.
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { z } from "zod";
import { MODEL, NO_MODEL, WEATHER, check, count, hello, messageOf, run, weather } from "./checks.mjs";
import { client } from "./configuration.mjs";

const body = (content) => ({ model: MODEL, max_tokens: 2000, messages: [{ role: "user", content }] });
const text = (message) =>
  message.content
    .filter((block) => block.type === "text")
    .map((block) => block.text)
    .join("");

check("messages.answer", async () => text(await client.messages.create(body(hello("messages.answer")))));

check("messages.stream", async () => {
  const pieces = [];
  const stream = client.messages.stream(body(count("messages.stream"))).on("text", (delta) => pieces.push(delta));
  await stream.finalMessage();
  return pieces;
});

check("messages.tools", async () => {
  const tool = betaZodTool({
    name: "get_weather",
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    run: () => WEATHER,
  });
  const thinking = { type: "adaptive" };
  return text(await client.beta.messages.toolRunner({ ...body(weather("messages.tools")), tools: [tool], thinking }));
});

check("messages.error", () =>
  messageOf(() => client.messages.create({ ...body(hello("messages.error")), model: NO_MODEL })),
);

await run();
