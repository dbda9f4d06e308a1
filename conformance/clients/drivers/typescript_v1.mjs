// The official TypeScript SDK, version 1.
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { SignIn, listAndCall } from "./sign_in.mjs";

const url = new URL(process.env.ASTER_URL);
const key = process.env.ASTER_API_KEY;
const authProvider = key ? undefined : new SignIn("TypeScript SDK 1", 3032);
const requestInit = key ? { headers: { Authorization: `Bearer ${key}` } } : {};
const connect = async () => {
  const client = new Client({ name: "typescript-v1", version: "1" });
  const transport = new StreamableHTTPClientTransport(url, { requestInit, authProvider });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!(error instanceof UnauthorizedError) || !authProvider?.sentBack) throw error;
    await transport.finishAuth(authProvider.sentBack.get("code"));
    return null;
  }
  return client;
};
await listAndCall((await connect()) ?? (await connect()));
