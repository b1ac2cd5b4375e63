"""Limit store in Redis 6.2 or newer: shared by all processes that reach it, and kept when all of them restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from serving.redis_connection import connect, disconnect, reaching
from serving.settings.limits import CALENDAR, LIMIT_KINDS, LimitKind, period_end
from serving.tenancy.rate_limits.base import (
    HOLDER_LIFE_S,
    WINDOW,
    Acquisition,
    Amounts,
    Denied,
    Granted,
    Report,
    Window,
)
from serving.tenancy.rate_limits.memory import LONGEST_PROMISE_S, SPARE_PART

_TIMEOUT_S = 1.0
_CONNECTIONS = 32
_KEEP_S = 40 * 86400
_NONE = -1

_UNITS = ("requests", "tokens", "slots")
_CODES = {("tokens", "day"): "d", ("tokens", "month"): "m", ("requests", "day"): "D", ("requests", "month"): "M"}
"""First letter of a hash field of a kind that begins anew with a day or a month."""


def _lua(kinds: tuple[LimitKind, ...]) -> str:
    """Kinds as a Lua table: indexes of limit and unit among the arguments, the span, the field's first letter."""
    rows = (
        f"{{index={LIMIT_KINDS.index(kind) + 1}, unit={_UNITS.index(kind.unit) + 1}, span='{kind.span}', "
        f"code='{_CODES.get((kind.unit, kind.span), kind.unit[0])}'}}"
        for kind in kinds
    )
    return f"{{{', '.join(rows)}}}"


_KINDS = len(LIMIT_KINDS)

# One hash a team, so that a Redis Cluster keeps all of it on one node: r1760000000 and t1760000000 are what was used in
# that second, d20370 and m2025-10 the tokens of a day and a month (D and M would be its requests), h:NAME a replica as
# "sequence held seen", pr and pt what was promised and since when. A script runs alone, and by Redis's clock, which is
# one for all replicas. It mirrors memory.py line for line.
_COMMON = f"""
local WINDOW, LIFE = {WINDOW}, {HOLDER_LIFE_S}
local KINDS, CALENDAR = {_lua(LIMIT_KINDS)}, {_lua(CALENDAR)}
local time = redis.call('TIME')
local now = tonumber(ARGV[1])
if now < 0 then now = time[1] + time[2] / 1000000 end
local key, holder, sequence, held = KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local function day_and_month(second)
  -- The civil calendar from days since the epoch (Howard Hinnant, chrono-compatible low-level date algorithms).
  local day = math.floor(second / 86400)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local shifted = math.floor((5 * doy + 2) / 153)
  local year, number = yoe + era * 400, shifted + 3
  if number > 12 then year, number = year + 1, number - 12 end
  return day, string.format('%04d-%02d', year, number)
end
local function update_holder(count)
  local old = redis.call('HGET', key, 'h:' .. holder)
  local old_sequence, old_held = -1, 0
  if old then
    old_sequence, old_held = string.match(old, '^(%S+) (%S+)')
    old_sequence = tonumber(old_sequence)
  end
  if sequence > old_sequence then
    redis.call('HSET', key, 'h:' .. holder, sequence .. ' ' .. count .. ' ' .. now)
  else
    redis.call('HSET', key, 'h:' .. holder, old_sequence .. ' ' .. old_held .. ' ' .. now)
  end
end
local function charge(requests, tokens, second)
  if second > math.floor(now) - WINDOW then
    if requests ~= 0 then redis.call('HINCRBY', key, 'r' .. second, requests) end
    if tokens ~= 0 then redis.call('HINCRBY', key, 't' .. second, tokens) end
  end
  local day, month = day_and_month(second)
  local period, amounts = {{day=day, month=month}}, {{requests, tokens}}
  for _, kind in ipairs(CALENDAR) do
    if amounts[kind.unit] ~= 0 then
      redis.call('HINCRBY', key, kind.code .. period[kind.span], amounts[kind.unit])
    end
  end
  redis.call('EXPIRE', key, {_KEEP_S})
end
"""
_TAKE = (
    _COMMON
    + f"""
local limits, need, spare = {{}}, {{}}, {{}}
for index = 1, {_KINDS} do limits[index] = tonumber(ARGV[4 + index]) end
for unit = 1, 3 do
  need[unit], spare[unit] = tonumber(ARGV[4 + {_KINDS} + unit]), tonumber(ARGV[7 + {_KINDS} + unit])
end
local day, month = day_and_month(now)
local period, used = {{day=day, month=month}}, {{}}
local calendar = {{}}
for _, kind in ipairs(CALENDAR) do calendar[kind.code], used[kind.code] = kind, 0 end
local oldest = math.floor(now) - WINDOW + 1
local windows = {{r = {{used = 0, seconds = {{}}}}, t = {{used = 0, seconds = {{}}}}}}
local elsewhere, holders, gone, promised = 0, 1, {{}}, {{}}
local all = redis.call('HGETALL', key)
for index = 1, #all, 2 do
  local name, value = all[index], all[index + 1]
  local kind = string.sub(name, 1, 1)
  if kind == 'r' or kind == 't' then
    local second = tonumber(string.sub(name, 2))
    if second < oldest then gone[#gone + 1] = name else
      local window = windows[kind]
      window.used = window.used + value
      window.seconds[#window.seconds + 1] = {{second, tonumber(value)}}
    end
  elseif kind == 'p' then promised[string.sub(name, 2)] = value
  elseif calendar[kind] then
    local current = kind .. period[calendar[kind].span]
    if name == current then used[kind] = tonumber(value) elseif name < current then gone[#gone + 1] = name end
  elseif kind == 'h' and name ~= 'h:' .. holder then
    local _, count, seen = string.match(value, '^(%S+) (%S+) (%S+)')
    if now - tonumber(seen) > LIFE then gone[#gone + 1] = name
    else elsewhere, holders = elsewhere + count, holders + 1 end
  end
end
for first = 1, #gone, 1000 do
  redis.call('HDEL', key, unpack(gone, first, math.min(first + 999, #gone)))
end
local function view(window, limit)
  local last = -1
  for _, each in ipairs(window.seconds) do if each[2] > 0 and each[1] > last then last = each[1] end end
  local full = 0
  if last >= 0 then full = last + WINDOW - now end
  return math.max(0, limit - window.used), tostring(full)
end
local function wait_for(kind, wanted, limit)
  local window = windows[kind]
  if window.used + wanted <= limit then return 0 end
  local before, at = 0, now
  if promised[kind] then before, at = string.match(promised[kind], '^(%S+) (%S+)') end
  before = math.max(0, before - (now - at) * limit / WINDOW)
  redis.call('HSET', key, 'p' .. kind, (before + wanted) .. ' ' .. now)
  local needed, freed = window.used + wanted - limit + before, 0
  table.sort(window.seconds, function(a, b) return a[1] < b[1] end)
  for _, each in ipairs(window.seconds) do
    freed = freed + each[2]
    if freed >= needed then return each[1] + WINDOW - now end
  end
  return math.min({LONGEST_PROMISE_S}, WINDOW * (1 + (needed - freed) / limit))
end
local denied, wait = 0, 0
for _, kind in ipairs(CALENDAR) do
  local limit = limits[kind.index]
  if denied == 0 and limit >= 0 and used[kind.code] + need[kind.unit] > limit then denied = kind.index end
end
if denied == 0 then
  for _, kind in ipairs(KINDS) do
    local limit, wanted = limits[kind.index], need[kind.unit]
    if kind.span == 'minute' and limit >= 0 and wanted > 0 then
      local seconds = wait_for(kind.code, math.min(wanted, limit), limit)
      if seconds > wait then denied, wait = kind.index, seconds end
    end
  end
  for _, kind in ipairs(KINDS) do
    local limit = limits[kind.index]
    if denied == 0 and kind.span == 'moment' and limit >= 0 and need[3] > 0 and elsewhere + held + need[3] > limit then
      denied = kind.index
    end
  end
end
local got = {{0, 0, 0}}
if denied == 0 then
  local function granted(limit, used, asked)
    if limit < 0 then return asked end
    return math.max(0, math.min(asked, math.floor(math.floor(limit * {SPARE_PART}) / holders),
      math.floor((limit - used) / (4 * holders))))
  end
  for unit = 1, 3 do got[unit] = spare[unit] end
  for _, kind in ipairs(KINDS) do
    local before = elsewhere + held
    if kind.span == 'minute' then before = windows[kind.code].used
    elseif calendar[kind.code] then before = used[kind.code] end
    got[kind.unit] = granted(limits[kind.index], before + need[kind.unit], got[kind.unit])
  end
  for unit = 1, 3 do got[unit] = need[unit] + got[unit] end
  local second = math.floor(now)
  charge(got[1], got[2], second)
  for unit, kind in ipairs({{'r', 't'}}) do
    local window, found = windows[kind], false
    window.used = window.used + got[unit]
    for _, each in ipairs(window.seconds) do
      if each[1] == second then each[2], found = each[2] + got[unit], true end
    end
    if not found then window.seconds[#window.seconds + 1] = {{second, got[unit]}} end
  end
end
update_holder(held + got[3])
local left_r, full_r = view(windows.r, limits[1])
local left_t, full_t = view(windows.t, limits[2])
return {{denied, tostring(wait), got[1], got[2], got[3], left_r, full_r, left_t, full_t, tostring(now)}}
"""
)
_REPORT = (
    _COMMON
    + """
update_holder(held)
for index = 5, #ARGV, 3 do
  charge(tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2]), math.floor(now - ARGV[index]))
end
"""
)


class RedisLimitStore:
    """LimitStore in Redis.

    The URL may hold a password; it is in no message and no repr. `clock`, for tests, gives seconds since the epoch and
    replaces Redis's own. Raises SettingsError for a URL that cannot be read; connects at the first call.
    """

    def __init__(self, url: SecretStr, *, name: str = "limits", clock: Callable[[], float] | None = None) -> None:
        self._name = name
        self._clock = clock
        self._redis = connect(url, timeout_s=_TIMEOUT_S, connections=_CONNECTIONS)
        self._take = self._redis.register_script(_TAKE)
        self._report = self._redis.register_script(_REPORT)

    async def acquire(self, acquisition: Acquisition) -> Granted | Denied:
        """See LimitStore."""
        need, spare, limits = acquisition.need, acquisition.spare, acquisition.limits
        denied, wait, *figures = await self._run(
            self._take,
            acquisition.team,
            acquisition.holder,
            acquisition.sequence,
            acquisition.held,
            *(_number(limits.limit(kind)) for kind in LIMIT_KINDS),
            *(need.requests, need.tokens, need.slots),
            *(spare.requests, spare.tokens, spare.slots),
        )
        requests, tokens, slots, left_requests, full_requests, left_tokens, full_tokens, now = figures
        windows = (
            _window(limits.requests_per_minute, left_requests, full_requests),
            _window(limits.tokens_per_minute, left_tokens, full_tokens),
        )
        if not denied:
            return Granted(Amounts(requests, tokens, slots), *windows)
        kind = LIMIT_KINDS[denied - 1]
        return Denied(kind.name, _wait(kind, float(wait), float(now)), *windows)

    async def report(self, reports: Sequence[Report]) -> None:
        """See LimitStore."""
        for each in reports:
            corrections = [part for c in each.corrections for part in (c.age_s, c.requests, c.tokens)]
            await self._run(self._report, each.team, each.holder, each.sequence, each.held, *corrections)

    async def seed(self, used: Mapping[str, tuple[int, int]]) -> None:
        """See LimitStore. Does nothing: Redis outlives restarts."""

    async def close(self) -> None:
        """See LimitStore."""
        await disconnect(self._redis)

    async def _run(self, script: Any, team: str, *arguments: str | float) -> Any:
        now = _NONE if self._clock is None else self._clock()
        with reaching("The server cannot reach the store of its limits now."):
            return await script(keys=[f"gpt-oss-serving:{self._name}:{team}"], args=[now, *arguments])


def _number(limit: int | None) -> int:
    return _NONE if limit is None else limit


def _window(limit: int | None, left: int, full_in_s: bytes) -> Window | None:
    return None if limit is None else Window(limit, left, float(full_in_s))


def _wait(kind: LimitKind, wait: float, now: float) -> float | None:
    if kind in CALENDAR:
        return period_end(kind.span, now) - now
    return None if kind.span == "moment" else wait
