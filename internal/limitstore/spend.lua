-- Charges calls to all of their keys, or to none. This is the algorithm of
-- package limit: what has the same name there does the same here. Lua's numbers
-- are exact up to 2^53 only, so that products are avoided that can be larger.
--
-- KEYS are those of the charges; one may stand there twice.
-- ARGV is the time in microseconds, or nothing for that of the server's clock,
-- and for each charge the rule's limit, burst and span in microseconds, and the
-- cost.
-- Returns whether the calls are allowed (1 or 0), the wait until they would be
-- (-1 for never), what remains, and the wait until everything is left again; and
-- then the same four for each charge, allowed or not by itself.
-- If a key's value cannot be read: -1 and which key it is. Nobody has paid
-- then, and the value stays, as a count must not be reset; it gets an end, if it
-- had none, when nothing that the key may have spent counts any more.
--
-- The value of a key is an array: the state's busy and spent, and the first,
-- last and calls of each run.

local floor, ceil, fmod = math.floor, math.ceil, math.fmod
local max, min, never = math.max, math.min, math.huge
local maxRuns = 64
local maxNumbers = 3000 -- far above what rules that change can leave
local largestNumber = 9007199254740992

local now = tonumber(ARGV[1])
if not now then
	local time = redis.call('TIME')
	now = time[1] * 1000000 + time[2]
end

-- charge returns the rule of a charge and its cost.
local function charge(i)
	local at = 4 * i - 2
	local r = {limit = tonumber(ARGV[at]), burst = tonumber(ARGV[at + 1]), per = tonumber(ARGV[at + 2])}
	r.most = max(r.limit, r.burst)
	r.largest = r.burst > 0 and r.burst or r.limit
	r.tick = r.most > maxRuns and floor(r.per / maxRuns) or 0
	r.whole, r.part = floor(r.per / r.limit), fmod(r.per, r.limit)
	return r, tonumber(ARGV[at + 3])
end

-- due is n * per / limit, rounded up.
local function due(r, n)
	return n * r.whole + ceil(n * r.part / r.limit)
end

-- earned is time * limit / per, rounded down: the largest n that is due.
local function earned(r, time)
	local rest = fmod(time, r.per)
	local n = floor(rest * r.limit / r.per) -- may be rounded to a neighbour
	if due(r, n) > rest then
		n = n - 1
	elseif due(r, n + 1) <= rest then
		n = n + 1
	end
	return (time - rest) / r.per * r.limit + n
end

-- decode returns the state that a value holds, or nothing. What lies in the
-- future, since the clock was set back, becomes now: that is the earliest
-- moment at which it is sure not to end too early.
local function decode(value)
	local ok, v, more = pcall(cmsgpack.unpack, value)
	if not ok or type(v) ~= 'table' or more ~= nil or #v % 3 ~= 2 or #v > maxNumbers then
		return nil
	end
	for i = 1, #v do
		local n = v[i]
		if type(n) ~= 'number' or n < 0 or n > largestNumber or n ~= floor(n) then
			return nil
		end
	end
	local s = {busy = min(v[1], now), spent = v[2], window = 0, runs = {}}
	for i = 3, #v, 3 do
		if v[i + 1] > now then -- the last one, if busy lies there, too
			s.changed = true
		end
		if v[i + 2] < 1 then
			return nil
		end
		s.runs[i - 2], s.runs[i - 1], s.runs[i] = min(v[i], now), min(v[i + 1], now), v[i + 2]
		s.window = s.window + v[i + 2]
	end
	return s
end

-- read returns the state of a key, or an error of the server's, or nothing if
-- the value cannot be read.
local function read(key)
	local value = redis.pcall('GET', key)
	if not value then
		return {busy = 0, spent = 0, window = 0, runs = {}}
	end
	if type(value) == 'string' then
		return decode(value)
	end
	if string.find(value.err, '^WRONGTYPE') then
		return nil
	end
	return nil, value
end

-- full is after what time a busy key has a whole burst of credit again.
local function full(s, r)
	if r.burst == 0 then
		return 0
	end
	return due(r, s.spent + r.burst - 1)
end

local function advance(s, r)
	local runs, gone = s.runs, 0
	while gone < #runs and runs[gone + 2] + r.per <= now do
		s.window = s.window - runs[gone + 3]
		gone = gone + 3
	end
	if gone > 0 then
		s.runs = {}
		for i = gone + 1, #runs do
			s.runs[i - gone] = runs[i]
		end
	end
	if s.spent > 0 and now - s.busy >= full(s, r) then
		s.spent = 0
	end
end

local function remaining(s, r)
	local free = r.most - s.window
	if r.burst > 0 then
		local allowance = r.burst
		if s.spent > 0 then
			allowance = max(allowance, earned(r, now - s.busy) + 1)
		end
		free = min(free, allowance - s.spent)
	end
	return max(0, free)
end

local function wait(s, r, cost)
	if cost > r.largest then
		return never
	end
	local time, total = 0, s.spent + cost
	if r.burst > 0 and s.spent > 0 and total > r.burst then
		time = max(0, s.busy + due(r, total - 1) - now)
	end
	local excess = s.window + cost - r.most
	for i = 1, #s.runs, 3 do
		if excess <= 0 then
			break
		end
		excess = excess - s.runs[i + 2]
		time = max(time, s.runs[i + 1] + r.per - now)
	end
	return time
end

local function spend(s, r, cost)
	if cost == 0 then
		return
	end
	s.changed = true
	if r.burst > 0 then
		if s.spent == 0 then
			s.busy = now
		end
		s.spent = s.spent + cost
		local spans = max(0, floor((s.spent - r.burst) / r.limit))
		s.spent = s.spent - spans * r.limit
		s.busy = s.busy + spans * r.per
	end
	s.window = s.window + cost
	local runs = s.runs
	local n = #runs
	if n > 0 and now - runs[n - 2] <= r.tick then
		runs[n - 1], runs[n] = now, runs[n] + cost
	else
		runs[n + 1], runs[n + 2], runs[n + 3] = now, now, cost
	end
end

local function reset(s, r)
	local time = 0
	if #s.runs > 0 then
		time = s.runs[#s.runs - 1] + r.per - now
	end
	if s.spent > 0 then
		time = max(time, s.busy + full(s, r) - now)
	end
	return time
end

-- expiry is the text of a time in milliseconds that is not shorter than the one
-- given: the server may look at its clock at a slightly different moment.
local function expiry(time)
	return string.format('%.0f', min(ceil(time / 1000) + 1000, largestNumber))
end

local rules, costs, states, byKey = {}, {}, {}, {}
local allowed, retry, able, waits = true, 0, {}, {}
for i, key in ipairs(KEYS) do
	local r, cost = charge(i)
	local s = byKey[key]
	if not s then
		local problem
		s, problem = read(key)
		if problem then
			return problem
		end
		if not s then
			if redis.call('PTTL', key) < 0 then
				redis.call('PEXPIRE', key, expiry(due(r, r.limit + 2 * r.burst)))
			end
			return {-1, i}
		end
		s.life = 0
		byKey[key] = s
	end
	advance(s, r)
	rules[i], costs[i], states[i] = r, cost, s
	for j = 1, i - 1 do
		if states[j] == s then
			cost = cost + costs[j]
		end
	end
	able[i], waits[i] = 1, 0
	if remaining(s, r) < cost then
		allowed = false
		able[i], waits[i] = 0, wait(s, r, cost)
		retry = max(retry, waits[i])
	end
end

local function finite(time)
	return time == never and -1 or min(time, largestNumber)
end

local left, longest, answer = never, 0, {}
for i, s in ipairs(states) do
	local r = rules[i]
	if allowed then
		spend(s, r, costs[i])
	end
	local here, time = remaining(s, r), reset(s, r)
	left = min(left, here)
	longest = max(longest, time)
	s.life = max(s.life, time)
	local at = 4 * i
	answer[at + 1], answer[at + 2] = able[i], finite(waits[i])
	answer[at + 3], answer[at + 4] = here, finite(time)
end
for key, s in pairs(byKey) do
	if s.changed then
		local v = {s.busy, s.spent, unpack(s.runs)}
		redis.call('SET', key, cmsgpack.pack(v), 'PX', expiry(s.life))
	end
end
answer[1], answer[2], answer[3], answer[4] = allowed and 1 or 0, finite(retry), left, finite(longest)
return answer
