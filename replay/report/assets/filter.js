// The filter language of `itstrace show -Y`, as replay/filter.py has it; a test holds the two together.

const MAX_TOKENS = 1000;
const MAX_DEPTH = 100;
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const TOKEN = new RegExp(
  `${SPACE}*(?:(==|!=|<=|>=|<|>|~|\\(|\\)|&&|\\|\\||!)|("[^"]*"|[A-Za-z_0-9.\\[\\]-]+))`,
  "y",
);
const TRAILING = new RegExp(`${SPACE}+$`);
const WORDS = { "&&": "and", "||": "or", "!": "not" };
const INTEGER =
  /^[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|[1-9](?:_?[0-9])*|0(?:_?0)*)$/;
const COMPARE = {
  "==": (a, b) => a == b, // a number and a BigInt may be the same
  "!=": (a, b) => a != b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

class FilterError extends Error {}

// Return a function (chunk, group) -> (at, row) -> whether the event there passes.
function compileFilter(text, names) {
  const tokens = split(text);
  let next = 0;

  function take() {
    if (next >= tokens.length) throw new FilterError(`the filter ends too early`);
    return tokens[next++];
  }

  function either() {
    let left = both();
    while (tokens[next] === "or") {
      next++;
      left = joinedBy(left, both(), (a, b) => (at, row) => a(at, row) || b(at, row));
    }
    return left;
  }

  function both() {
    let left = one();
    while (tokens[next] === "and") {
      next++;
      left = joinedBy(left, one(), (a, b) => (at, row) => a(at, row) && b(at, row));
    }
    return left;
  }

  function one() {
    if (next > MAX_DEPTH && (tokens[next] === "not" || tokens[next] === "(")) {
      throw new FilterError("nested too deeply");
    }
    const token = take();
    if (token === "not") {
      const inner = one();
      return (chunk, group) => {
        const test = inner(chunk, group);
        return (at, row) => !test(at, row);
      };
    }
    if (token === "(") {
      const inside = either();
      if (take() !== ")") throw new FilterError("a ) is missing");
      return inside;
    }
    if (next < tokens.length && isComparison(tokens[next])) return comparison(token);
    const word = unquoted(token);
    return (chunk, group) => {
      const reads = ["kind", "register", "command"].map((name) => valueOf(chunk, group, name));
      return (at, row) => reads.some((read) => read !== null && read(at, row) === word);
    };
  }

  function comparison(name) {
    if (!names.has(name)) throw new FilterError(`no event has a field called ${name.slice(0, 40)}`);
    const operator = take();
    const wanted = literal(take());
    return (chunk, group) => {
      const read = valueOf(chunk, group, name);
      if (read === null) return () => false;
      return (at, row) => passes(read(at, row), operator, wanted);
    };
  }

  const made = either();
  if (next < tokens.length) throw new FilterError(`${tokens[next]} is not expected there`);
  return made;
}

function isComparison(token) {
  return token === "~" || Object.hasOwn(COMPARE, token);
}

function joinedBy(left, right, join) {
  return (chunk, group) => join(left(chunk, group), right(chunk, group));
}

function split(given) {
  const text = given.replace(TRAILING, "");
  const tokens = [];
  let at = 0;
  while (at < text.length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match || tokens.length >= MAX_TOKENS) {
      throw new FilterError(`cannot understand ${text.slice(at, at + 40)}`);
    }
    tokens.push(match[1] ? (WORDS[match[1]] ?? match[1]) : match[2]);
    at = TOKEN.lastIndex;
  }
  return tokens;
}

function unquoted(token) {
  return token.replace(/^"+|"+$/g, "");
}

// Return a number, a BigInt for what a number cannot hold, or a text.
function literal(token) {
  if (!INTEGER.test(token)) return unquoted(token);
  const plain = token.replaceAll("_", "").toLowerCase();
  const magnitude = BigInt(plain.replace(/^[+-]/, ""));
  const value = plain.startsWith("-") ? -magnitude : magnitude;
  return value >= -SAFE && value <= SAFE ? Number(value) : value;
}

// Return (at, row) -> the value that an event of this group has under a name; null for none.
function valueOf(chunk, group, name) {
  if (name === "kind") {
    const { kind } = chunk.trace.head.groups[group];
    return () => kind;
  }
  if (name === "seq") return (at) => chunk.trace.firstSeq + chunk.begin + at;
  if (name === "time_ns") return (at) => chunk.trace.origin + BigInt(chunk.times[at]);
  if (name === "") return null;
  const read = chunk.columnOf(group, name);
  return read && ((at, row) => read(row));
}

function isInteger(value) {
  return typeof value === "number" || typeof value === "bigint";
}

function passes(given, operator, wanted) {
  if (given === null || given === undefined) return false;
  const value = Array.isArray(given) && given[0] === "i" ? BigInt(given[1]) : given;
  if (operator === "~") {
    return textOf(value).toLowerCase().includes(String(wanted).toLowerCase());
  }
  if (isInteger(wanted) ? !isInteger(value) : typeof value !== "string") return false;
  return COMPARE[operator](value, wanted);
}

// Return a value as Python's str() has it.
function textOf(value) {
  if (!Array.isArray(value)) return String(value);
  return value[0] === "y" ? bytesText(value[1]) : value[1];
}

function bytesText(hex) {
  let text = "";
  for (let at = 0; at < hex.length; at += 2) {
    const code = parseInt(hex.slice(at, at + 2), 16);
    const named = { 9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\" }[code];
    if (named) text += named;
    else if (code < 32 || code > 126) text += `\\x${hex.slice(at, at + 2)}`;
    else text += String.fromCharCode(code);
  }
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  return `b${quote}${quote === "'" ? text.replaceAll("'", "\\'") : text}${quote}`;
}

// Return the events (counted from 0) of one chunk that pass.
function chosenOf(chunk, filter) {
  const tests = new Map();
  const found = [];
  for (let at = 0; at < chunk.count; at++) {
    const group = chunk.groups[at];
    let test = tests.get(group);
    if (!test) tests.set(group, (test = filter(chunk, group)));
    if (test(at, chunk.rows[at])) found.push(chunk.begin + at);
  }
  return found;
}
