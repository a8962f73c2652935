// Questions to the server, and its own words when it refuses: a problem document (RFC 9457) has them in `detail`.

/** What came instead of an answer. */
export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.name = "Refusal";
    this.status = status;
  }
}

const PATIENCE_S = 10;

/** A signal for a question that is given up when one of these says so, or after ten seconds. */
export function patient(...signals) {
  return AbortSignal.any([...signals, AbortSignal.timeout(PATIENCE_S * 1000)]);
}

/** What to say of a question that failed; null when nobody is there, which the connection says. */
export function troubleOf(error) {
  if (error instanceof Refusal) return error.message;
  return error.name === "TimeoutError" ? `No answer within ${PATIENCE_S} s.` : null;
}

/** Ask for JSON; fails with a `Refusal` for any answer that is none, and as `fetch` does when there is nobody. */
export async function ask(url, signal) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Refusal(answer.status, await wordsOf(answer));
  return answer.json();
}

/** Why an answer is none. */
export async function wordsOf(answer) {
  try {
    const { detail } = await answer.json();
    if (detail) return detail;
  } catch {
    // the page of a proxy
  }
  return `The answer was ${answer.status} ${answer.statusText}`.trimEnd();
}
