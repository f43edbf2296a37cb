//! The few things that have to happen at once in the shared registry.
//!
//! Generations are compared as text of equal length: Lua counts in doubles, which cannot hold them all.

use redis::Script;

use super::keys::PREFIX;

#[derive(Debug)]
pub(super) struct Scripts {
    /// A node lives on. Keys: nodes, counts, counter. Arguments: node, lease in ms, highest generation,
    /// sessions. Answers the highest generation of all, then every live node with its sessions.
    pub(super) heartbeat: Script,
    /// A session takes a device's row. Keys: row, counter, nodes. Arguments: proposed generation, session,
    /// node, record, verified at, lease in ms. Answers its generation, then, if a session of a live node was
    /// replaced, that one's generation, record and verified at.
    pub(super) enter: Script,
    /// Sessions still stand. Keys: counter, nodes, rows. Arguments: node, lease in ms, then for each row
    /// generation, session, verified at, record. Answers for each: nothing, `missing` if the row has to be
    /// written and the record is empty, or the generation of the newer session that stands elsewhere.
    pub(super) stand: Script,
    /// Sessions have ended. Keys: rows. Arguments: for each its generation.
    pub(super) leave: Script,
    /// Who holds a device. Keys: row, nodes. Answers generation, record, verified at; or nothing.
    pub(super) find: Script,
    /// A node leaves. Keys: nodes, counts. Argument: node.
    pub(super) goodbye: Script,
    /// Keeps a ticket. Keys: ticket, all, user's. Arguments: digest, ms left, record, most of a user, most of
    /// all. Answers a word.
    pub(super) put_ticket: Script,
    /// Gives a ticket. Keys: ticket, all. Argument: digest. Answers the record, or nothing.
    pub(super) take_ticket: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let script = |parts: &[&str]| Script::new(&parts.concat());
        Self {
            heartbeat: script(&[NOW, PAD, HEARTBEAT]),
            enter: script(&[NOW, PAD, ALIVE, FIELDS, ENTER]),
            stand: script(&[NOW, PAD, ALIVE, FIELDS, STAND]),
            leave: script(&[LEAVE]),
            find: script(&[NOW, ALIVE, FIELDS, FIND]),
            goodbye: script(&[GOODBYE]),
            put_ticket: script(&[NOW, SERVER, PUT_TICKET]),
            take_ticket: script(&[SERVER, &TAKE_TICKET.replace("PREFIX", PREFIX)]),
        }
    }
}

const NOW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";

const PAD: &str = r"
local function pad(number) return string.rep('0', 20 - #number) .. number end
";

/// Reads fields of a row. What is no row, which no node writes, is taken away.
const FIELDS: &str = r"
local function fields(row, ...)
  local stored = redis.pcall('HMGET', row, ...)
  if stored.err then
    redis.call('DEL', row)
    return {}
  end
  return stored
end
";

const ALIVE: &str = r"
local function alive(nodes, node)
  local lease = node and redis.call('ZSCORE', nodes, node)
  return lease and tonumber(lease) > now
end
";

/// The run of the server. A server that was started again, or that took over from another, may have back
/// what was given away since its last copy: it gives no ticket that it did not take in itself.
const SERVER: &str = r"
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
";

const HEARTBEAT: &str = r"
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
local counter = redis.call('GET', KEYS[3]) or '0'
if pad(ARGV[3]) > pad(counter) then
  redis.call('SET', KEYS[3], ARGV[3])
  counter = ARGV[3]
end
local answer = {counter}
local counts = redis.call('HGETALL', KEYS[2])
for i = 1, #counts, 2 do
  if redis.call('ZSCORE', KEYS[1], counts[i]) then
    answer[#answer + 1] = counts[i]
    answer[#answer + 1] = counts[i + 1]
  else
    redis.call('HDEL', KEYS[2], counts[i])
  end
end
return answer
";

const ENTER: &str = r"
local stored = fields(KEYS[1], 'generation', 'node', 'record', 'verified_at')
local highest = redis.call('GET', KEYS[2]) or '0'
if stored[1] and pad(stored[1]) > pad(highest) then highest = stored[1] end
local generation = ARGV[1]
if pad(generation) > pad(highest) then
  redis.call('SET', KEYS[2], generation)
else
  redis.call('SET', KEYS[2], highest)
  redis.call('INCR', KEYS[2])
  generation = redis.call('GET', KEYS[2])
end
redis.call('HSET', KEYS[1], 'generation', generation, 'session', ARGV[2], 'node', ARGV[3],
  'record', ARGV[4], 'verified_at', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
if stored[1] and alive(KEYS[3], stored[2]) then
  return {generation, stored[1], stored[3], stored[4]}
end
return {generation}
";

const STAND: &str = r"
local answers = {}
local highest = redis.call('GET', KEYS[1]) or '0'
for i = 3, #KEYS do
  local at = 3 + (i - 3) * 4
  local generation, session, verified, record = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local stored = fields(KEYS[i], 'generation', 'session', 'node')
  local mine = stored[2] == session
  local answer = ''
  if stored[1] and not mine and pad(stored[1]) > pad(generation) and alive(KEYS[2], stored[3]) then
    answer = stored[1]
  elseif mine and stored[1] == generation then
    redis.call('HSET', KEYS[i], 'verified_at', verified)
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  elseif record == '' then
    answer = 'missing'
  else
    redis.call('HSET', KEYS[i], 'generation', generation, 'session', session, 'node', ARGV[1],
      'record', record, 'verified_at', verified)
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
  if pad(generation) > pad(highest) then highest = generation end
  answers[#answers + 1] = answer
end
redis.call('SET', KEYS[1], highest)
return answers
";

const LEAVE: &str = r"
for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'generation') == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
return #KEYS
";

const FIND: &str = r"
local stored = fields(KEYS[1], 'generation', 'record', 'verified_at', 'node')
if stored[1] and alive(KEYS[2], stored[4]) then return {stored[1], stored[2], stored[3]} end
return {}
";

const GOODBYE: &str = r"
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
";

const PUT_TICKET: &str = r"
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[5]) then return 'too many' end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 'too many of user' end
redis.call('SET', KEYS[1], run .. '\n' .. KEYS[3] .. '\n' .. ARGV[3], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), ARGV[1])
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2], 'NX')
redis.call('PEXPIRE', KEYS[2], ARGV[2], 'GT')
redis.call('PEXPIRE', KEYS[3], ARGV[2], 'NX')
redis.call('PEXPIRE', KEYS[3], ARGV[2], 'GT')
return 'kept'
";

const TAKE_TICKET: &str = r"
local kept = redis.call('GETDEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if not kept then return false end
local by, users, record = string.match(kept, '^(%x+)\n([^\n]+)\n(.*)$')
if users and string.sub(users, 1, #'PREFIX') == 'PREFIX' then redis.call('ZREM', users, ARGV[1]) end
if not run or by ~= run then return false end
return record
";
