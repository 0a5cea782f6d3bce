// Code that ts-proto generates from the contract compiles and works with @grpc/grpc-js.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { useDemo } from "leadgate/testing";

const demo = useDemo(before, after);
const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const here = path("../"); // The package: this file is compiled to .test-build.
const repository = path("../../../");

test("ts-proto generates a client that compiles and creates a lead", async () => {
  const output = path("./ts-proto");
  const template = {
    version: "v2",
    clean: true,
    plugins: [
      {
        local: `${here}node_modules/.bin/protoc-gen-ts_proto`,
        out: `${output}/src`,
        opt: ["outputServices=grpc-js", "esModuleInterop=true", "forceLong=bigint", "importSuffix=.js"],
        include_imports: true,
      },
    ],
    inputs: [{ directory: repository, paths: [`${repository}proto/leadgate/v1`] }],
  };
  execFileSync(process.env["BUF"] ?? `${repository}.venv/bin/buf`, ["generate", "--template", JSON.stringify(template)], { cwd: repository, stdio: "inherit" });
  await writeFile(`${output}/package.json`, '{ "type": "module" }');
  const options = { target: "ES2022", module: "NodeNext", types: ["node"], strict: true, skipLibCheck: true, rootDir: "src", outDir: "js" };
  await writeFile(`${output}/tsconfig.json`, JSON.stringify({ compilerOptions: options, include: ["src"] }));
  execFileSync(`${here}node_modules/.bin/tsc`, ["-p", output], { stdio: "inherit" });

  const grpc = await import("@grpc/grpc-js");
  const { LeadServiceClient } = await import(pathToFileURL(`${output}/js/leadgate/v1/lead.js`).href);
  const client = new LeadServiceClient(demo().address, grpc.credentials.createInsecure());
  const request = { lead: { emailAddress: "ts-proto@example.com", custom: {} }, requestId: "", validateOnly: false };
  const created = await new Promise<{ leadId: string }>((resolve, reject) => {
    client.createLead(request, new grpc.Metadata(), { deadline: Date.now() + 10_000 }, (error: Error | null, response: { leadId: string }) => (error ? reject(error) : resolve(response)));
  });
  client.close();
  assert.match(created.leadId, /^[0-9a-f-]{36}$/);
});
