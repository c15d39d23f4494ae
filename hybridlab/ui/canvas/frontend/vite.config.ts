import { defineConfig } from "vite";

// One ES module and one stylesheet with fixed names; the page asks for exactly these.
export default defineConfig({
  define: { "process.env.NODE_ENV": JSON.stringify("production") },
  build: {
    outDir: "../build",
    emptyOutDir: false,
    target: "es2022",
    minify: true,
    lib: { entry: "src/index.tsx", formats: ["es"], fileName: () => "canvas.js", cssFileName: "canvas" },
    rollupOptions: { output: { codeSplitting: false, minify: true } },
  },
});
