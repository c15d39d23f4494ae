/** Functions that stay the same object while what they do follows the newest render. */
import { useCallback, useLayoutEffect, useMemo, useRef } from "react";

/** React Flow tells every node and every line of each property that is a new object, so its handlers must not be. */
export function useSteady<Args extends unknown[], Result>(now: (...args: Args) => Result): (...args: Args) => Result {
  const newest = useRef(now);
  useLayoutEffect(() => {
    newest.current = now;
  });
  return useCallback((...args: Args) => newest.current(...args), []);
}

/** An object that stays the same while its functions do what those of the newest render do; its values stay the first ones. */
export function useSteadyAll<Kind extends object>(now: Kind): Kind {
  const newest = useRef(now);
  useLayoutEffect(() => {
    newest.current = now;
  });
  return useMemo(() => {
    const steady: [string, unknown][] = Object.entries(now).map(([name, value]) => [
      name,
      typeof value === "function" ? (...args: unknown[]): unknown => (newest.current[name as keyof Kind] as (...args: unknown[]) => unknown)(...args) : value,
    ]);
    return Object.fromEntries(steady) as Kind;
    // eslint-disable-next-line react-hooks/exhaustive-deps -- made once; what it does is read from the newest
  }, []);
}
