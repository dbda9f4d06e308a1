// Starts Swagger UI from a file of our own: the content security policy allows no inline script.
"use strict";

const page = document.getElementById("swagger-ui");

window.SwaggerUIBundle({
  url: page.dataset.schemaUrl,
  domNode: page,
  presets: [window.SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // The public validator would be told about this installation.
  validatorUrl: null,
  requestInterceptor: (request) => {
    // With the hub's session, changes need the CSRF token; it must not go to any other origin.
    const ownOrigin = new URL(request.url, document.baseURI).origin === window.location.origin;
    if (ownOrigin && !["GET", undefined].includes(request.method)) {
      request.headers[page.dataset.csrfHeader] = page.dataset.csrfToken;
    }
    return request;
  },
});
