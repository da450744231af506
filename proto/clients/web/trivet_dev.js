// Starts `trivet dev` as a child process, waits until it takes calls, and is sure to end it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

const START_MS = 30_000;

// A port that nobody has.
async function freePort() {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

export class TrivetDev {
  #process;
  #ports;
  #log = "";

  static async start(binary, ...settings) {
    const dev = new TrivetDev();
    dev.#ports = { admin: await freePort(), account: await freePort(), product: await freePort(), billing: await freePort() };
    const { admin, ...ports } = dev.#ports;
    settings.push(`server.admin_port=${admin}`, ...Object.entries(ports).map(([name, port]) => `${name}.port=${port}`));
    // A test must not inherit the settings of whoever runs it.
    const inherited = Object.entries(process.env).filter(([name]) => !/^(TRIVET|OTEL)_/.test(name));
    dev.#process = spawn(binary, ["dev", ...settings.flatMap((setting) => ["--set", setting])], {
      env: Object.fromEntries(inherited),
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [dev.#process.stdout, dev.#process.stderr]) {
      stream.on("data", (text) => (dev.#log += text));
    }
    await dev.#untilServing();
    return dev;
  }

  // Where a service takes calls, `http://127.0.0.1:8215`.
  address(name) {
    return `http://127.0.0.1:${this.#ports[name]}`;
  }

  async stop() {
    if (this.#process.exitCode === null) {
      this.#process.kill("SIGKILL");
      await once(this.#process, "exit");
    }
  }

  async #untilServing() {
    const giveUp = Date.now() + START_MS;
    for (;;) {
      try {
        if ((await fetch(`${this.address("admin")}/readyz`)).ok) {
          return;
        }
      } catch {
        // Not listening yet.
      }
      if (Date.now() > giveUp || this.#process.exitCode !== null) {
        await this.stop();
        throw new Error(`trivet dev does not serve:\n${this.#log}`);
      }
      await pause(50);
    }
  }
}
