// Questions to the collector.

import { learnTime } from "./format.js";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The answer as JSON; leads to the login page where the collector wants to know who asks. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(`/api/v1/${path}${query ? `?${query}` : ""}`, { signal, headers: { Accept: "application/json" } });
  learnTime(response.headers.get("Date"));
  if (response.ok) return response.json();
  throw await refusal(response);
}

export async function refusal(response) {
  if (response.status === 401) location.assign("/login");
  const body = await response.json().catch(() => ({}));
  return new ApiError(response.status, body.error?.code ?? "unknown", body.error?.message ?? `status ${response.status}`);
}
