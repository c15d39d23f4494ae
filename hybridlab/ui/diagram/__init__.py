"""The diagram on the page: drawn in the browser from what ``views.diagram`` laid out, so that an edit stays cheap."""
