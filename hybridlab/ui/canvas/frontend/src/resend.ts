/** Edits that stay without an answer are sent again: the connection may have been lost. */
import { useEffect } from "react";
import { SILENCE_MS, type Session } from "./session";

export function useResend(session: Session): void {
  useEffect(() => {
    let since = Date.now();
    let oldest = 0;
    const timer = setInterval(() => {
      const first = session.pending[0]?.id ?? 0;
      if (first !== oldest) [oldest, since] = [first, Date.now()];
      else if (first && Date.now() - since > SILENCE_MS) {
        since = Date.now();
        session.send(true);
      }
    }, 500);
    return () => clearInterval(timer);
  }, [session]);
}
