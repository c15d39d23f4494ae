/** Asks Python at once what edits on their way will cost; their own way, by Streamlit, takes longer. */
import type { Foreseen, Sent } from "./types";

type Fetch = (address: string, init: RequestInit) => Promise<Response>;
/** So often in a row may an answer fail to come before the other way is left to do it alone. */
const PATIENCE = 3;

export class Ahead {
  private failures = 0;
  private asked = 0;
  private running: AbortController | null = null;

  constructor(private fetching: Fetch = (address, init) => fetch(address, init)) {}

  /** Ask for what these edits bring; a newer question replaces an older one. */
  async ask(address: string | null, seed: string, sent: Sent, take: (told: Foreseen) => void): Promise<void> {
    if (!address || !sent.edits.length || this.failures >= PATIENCE) return;
    const number = (this.asked += 1);
    this.running?.abort();
    const stop = (this.running = new AbortController());
    try {
      const answer = await this.fetching(address, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ seed, ...sent }),
        signal: stop.signal,
      });
      if (!answer.ok) this.failures += 1;
      else {
        this.failures = 0;
        if (answer.status === 200 && number === this.asked) take((await answer.json()) as Foreseen);
      }
    } catch {
      if (!stop.signal.aborted) this.failures += 1;
    }
  }
}
