/** The component's door: Streamlit calls the default export on every change of its data. */
import "@xyflow/react/dist/base.css";
import "./canvas.css";
import { createRoot, type Root } from "react-dom/client";
import { Canvas } from "./Canvas";
import { Session, type Ways } from "./session";
import { telling } from "./telling";
import { TourCard } from "./Tour";
import type { FromPython } from "./types";

interface Call {
  /** A FromPython as JSON. */
  data: Uint8Array;
  parentElement: HTMLElement;
  setStateValue(name: string, value: unknown): void;
}
interface Mounted {
  root: Root;
  host: HTMLElement;
  session: Session;
  seed: string;
}
const mounted = new WeakMap<HTMLElement, Mounted>();
/** Sessions by design: a canvas that is taken down and put up again goes on where it was. */
const sessions = new Map<string, Session>();
const MOST_SESSIONS = 4;

function sessionFor(seed: string, ways: Ways): Session {
  const session = sessions.get(seed) ?? new Session(ways);
  sessions.delete(seed);
  sessions.set(seed, session);
  for (const old of sessions.keys()) if (sessions.size > MOST_SESSIONS) sessions.delete(old);
  return session;
}

telling.subscribe(() => {
  for (const [seed, session] of sessions) session.hear(telling.of(seed)?.acknowledged?.[session.client] ?? 0);
});

const decoder = new TextDecoder();
/** Always the same object, so that it is not drawn again with the canvas. */
const TOUR = <TourCard key="tour" />;

export default function canvas({ data: bytes, parentElement, setStateValue }: Call): () => void {
  const data = JSON.parse(decoder.decode(bytes)) as FromPython;
  const ways: Ways = {
    edits: (sent) => setStateValue("edits", sent),
    selection: (path) => setStateValue("selection", { path, at: Date.now() }),
    places: (seed, at) => setStateValue("places", { seed, at }),
    marks: (seed, wanted) => setStateValue("marks", { seed, wanted, at: Date.now() }),
  };
  let here = mounted.get(parentElement);
  if (!here) {
    const host = document.createElement("div");
    host.className = "hl-host";
    parentElement.appendChild(host);
    here = { root: createRoot(host), host, seed: data.seed, session: sessionFor(data.seed, ways) };
    mounted.set(parentElement, here);
  }
  if (here.seed !== data.seed) Object.assign(here, { seed: data.seed, session: sessionFor(data.seed, ways) });
  const { session, root, host } = here;
  if (!host.isConnected) parentElement.appendChild(host);
  Object.assign(host, { hlSession: session }); // for tests and for people with the browser's tools open
  session.connect(ways);
  session.receive(data);
  root.render([<Canvas key={data.seed} session={session} />, TOUR]);
  return () => {
    // Called before each change too, so only what has left the page is taken down.
    setTimeout(() => {
      if (!host.isConnected) {
        root.unmount();
        mounted.delete(parentElement);
      }
    }, 1_000);
  };
}
