/** Line icons, drawn here so that no font has to have them. */
const PATHS = {
  undo: "M4 7h7a4 4 0 0 1 0 8H7M4 7l3-3M4 7l3 3",
  redo: "M14 7H7a4 4 0 0 0 0 8h4M14 7l-3-3M14 7l-3 3",
  copy: "M7 7h8v8H7zM4 11V3h8",
  up: "M9 15V4M5 8l4-4 4 4",
  down: "M9 3v11M5 10l4 4 4-4",
  group: "M3 3h12v12H3zM6 7h6M6 11h6",
  ungroup: "M3 5V3h2M13 3h2v2M15 13v2h-2M5 15H3v-2M6 7h6M6 11h6",
  less: "M5 9h8",
  more: "M9 5v8M5 9h8",
  residual: "M6 2v14M6 5h4a3 3 0 0 1 3 3v2a3 3 0 0 1-3 3H6M4 13h4",
  tie: "M7 11l4-4M6 8L4.500 9.500a3 3 0 0 0 4 4L10 12M12 10l1.500-1.500a3 3 0 0 0-4-4L8 6",
  fold: "M5 4l4 4 4-4M5 14l4-4 4 4",
  bin: "M4 5h10M7 5V3h4v2M5 5l1 10h6l1-10",
  fit: "M3 7V3h4M11 3h4v4M15 11v4h-4M7 15H3v-4",
  tidy: "M6 2h6v4H6zM6 12h6v4H6zM9 6v6",
  column: "M9 2v14M5 4h8v3H5zM4 11h10v3H4z",
  row: "M2 9h14M4 5h3v8H4zM11 4h3v10h-3z",
  vary: "M3 5h7M14 5h1M10 3h4v4h-4zM3 13h1M8 13h7M4 11h4v4H4z",
  window: "M2 4h14v10H2zM2 7h14",
  help: "M6.500 6.500a2.500 2.500 0 1 1 3.500 2.300c-.8.4-1 .8-1 1.700M9 13.500v.1",
} as const;
export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): React.ReactNode {
  return (
    <svg width="17" height="17" viewBox="0 0 18 18" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" aria-hidden>
      <path d={PATHS[name]} />
    </svg>
  );
}
