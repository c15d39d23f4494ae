/** Functions that stay the same object while what they do follows the newest render. */
import { useCallback, useLayoutEffect, useRef } from "react";

/** React Flow tells every node and every line of each property that is a new object, so its handlers must not be. */
export function useSteady<Args extends unknown[], Result>(now: (...args: Args) => Result): (...args: Args) => Result {
  const newest = useRef(now);
  useLayoutEffect(() => {
    newest.current = now;
  });
  return useCallback((...args: Args) => newest.current(...args), []);
}
