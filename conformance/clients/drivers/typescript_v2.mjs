// The official TypeScript SDK, version 2. MODE is how it negotiates the revision; its own default is legacy.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { SignIn, listAndCall } from "./sign_in.mjs";

const url = new URL(process.env.ASTER_URL);
const key = process.env.ASTER_API_KEY;
const authProvider = key ? undefined : new SignIn("TypeScript SDK 2", 3033);
const requestInit = key ? { headers: { Authorization: `Bearer ${key}` } } : {};
const connect = async () => {
  const client = new Client(
    { name: "typescript-v2", version: "1" },
    { versionNegotiation: { mode: process.env.MODE } },
  );
  const transport = new StreamableHTTPClientTransport(url, { requestInit, authProvider });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!authProvider?.sentBack) throw error;
    await transport.finishAuth(authProvider.sentBack);
    return null;
  }
  return client;
};
await listAndCall((await connect()) ?? (await connect()));
