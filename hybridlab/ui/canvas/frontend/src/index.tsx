/** The component's door: Streamlit calls the default export on every change of its data. */
import "@xyflow/react/dist/base.css";
import "./canvas.css";
import { createRoot, type Root } from "react-dom/client";
import { Canvas } from "./Canvas";
import { Session } from "./session";
import type { FromPython } from "./types";

interface Call {
  data: FromPython;
  parentElement: HTMLElement;
  setStateValue(name: string, value: unknown): void;
}
interface Mounted {
  root: Root;
  host: HTMLElement;
  session: Session;
}
const mounted = new WeakMap<HTMLElement, Mounted>();

export default function canvas({ data, parentElement, setStateValue }: Call): () => void {
  const ways = {
    edits: (sent: unknown) => setStateValue("edits", sent),
    selection: (path: string | null) => setStateValue("selection", { path, at: Date.now() }),
    places: (seed: string, at: unknown) => setStateValue("places", { seed, at }),
  };
  let here = mounted.get(parentElement);
  if (!here) {
    const host = document.createElement("div");
    host.className = "hl-host";
    parentElement.appendChild(host);
    here = { root: createRoot(host), host, session: new Session(ways) };
    mounted.set(parentElement, here);
  }
  const { session, root, host } = here;
  if (!host.isConnected) parentElement.appendChild(host);
  session.connect(ways);
  session.receive(data);
  root.render(<Canvas session={session} />);
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
