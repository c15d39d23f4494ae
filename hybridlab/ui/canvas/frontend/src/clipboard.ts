/** Copy, cut and paste as YAML text, so that nodes travel between tabs and into files. */
import { pasteAt, removeAll, yamlOf, type Gesture } from "./compose";
import type { Session } from "./session";

const MOST_CHARACTERS = 100_000;
const inField = (event: { target: EventTarget }): boolean => event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);

interface Handlers {
  onCopy(event: React.ClipboardEvent): void;
  onCut(event: React.ClipboardEvent): void;
  onPaste(event: React.ClipboardEvent): void;
}

export function clipboard(session: Session, make: (gesture: Gesture | string, said: string) => void, say: (status: string) => void): Handlers {
  const copied = (event: React.ClipboardEvent): string[] => {
    const paths = session.selectedPaths();
    if (inField(event) || !paths.length) return [];
    event.clipboardData.setData("text/plain", yamlOf(session.nodes, paths));
    event.preventDefault();
    return paths;
  };
  return {
    onCopy: (event) => {
      if (copied(event).length) say("Copied as YAML");
    },
    onCut: (event) => {
      const paths = copied(event);
      if (paths.length) make(removeAll(session.nodes, paths), "Cut");
    },
    onPaste: (event) => {
      if (inField(event)) return;
      const yaml = event.clipboardData.getData("text/plain");
      event.preventDefault();
      const at = pasteAt(session.nodes, session.selectedPaths());
      if (yaml.trim()) make({ changes: [{ do: "paste", at, yaml: yaml.slice(0, MOST_CHARACTERS) }], select: at }, "Pasted");
    },
  };
}
