//! The pass: classify a chunk, walk the places its masks point to, hand each to the part that knows it.
//!
//! Everything here is driven by bits, so text that cannot hold a finding costs only its share of the class pass.

use std::ops::Range;

use super::catalog::{Catalog, Detector, LONG};
use super::checks::Verdict;
use super::shape::{Matched, Spans, Text, backwards, forwards};
use super::simd::{self, CHUNK, Masks, WORDS};
use super::words::Memo;
use super::{Confidence, Field, Hit, Seen, assign, marker, personal, resolve, structure};

/// What a place is masked for, before overlaps are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub start: usize,
    pub end: usize,
    pub rule: u16,
    pub confidence: Confidence,
    /// Decides overlaps: 0 generic, 1 named, 2 contextual format, 3 distinctive format, 4 proved or structural.
    pub weight: u8,
}

/// What scans use again and again: too large to be made anew for each small text.
pub(super) struct Scratch {
    masks: Box<Masks>,
    memo: Box<Memo>,
}

impl Scratch {
    /// Nothing known yet.
    pub fn new() -> Self {
        Scratch { masks: Masks::new(), memo: Memo::new() }
    }
}

/// The state of one scan.
pub(super) struct Scan<'a> {
    /// Names without interest.
    pub memo: &'a mut Memo,
    pub catalog: &'a Catalog,
    pub data: &'a [u8],
    /// Offset of the first field.
    begin: usize,
    pub fields: &'a [Field],
    pub spans: Spans,
    /// The field the spans belong to.
    spans_of: usize,
    pub found: Vec<Found>,
    /// Own markers, in ascending order.
    pub markers: Vec<Range<usize>>,
    pub seen: Seen,
    /// Bytes of costly work (decoding, walking back) left in this field; see [`Scan::spend`].
    budget: usize,
    budget_of: usize,
    /// Matches must not begin before this offset: what is before lies inside a match.
    pub done: usize,
    /// Text before this offset belongs to a field whose budget ran out.
    pub closed: usize,
    /// The stretch in which the latest bare value ended.
    pub bare: Range<usize>,
    /// Text from this offset on is left aside for a moment.
    edge: usize,
    /// Text before this offset was taken as the value of a name.
    pub valued: usize,
    /// Text before this offset belongs to a PEM block.
    pub pem_end: usize,
}

/// Work allowed per byte of a field, on top of a fixed amount, before the rest of the field is masked unscanned.
const WORK_PER_BYTE: usize = 16;
const WORK_FIXED: usize = 64 * 1024;

/// The cost of trying so many patterns (see [`Scan::spend`]).
fn best_work(patterns: usize) -> usize {
    60 + 40 * patterns
}

/// Where a loop over the events of one class stands: events come in ascending order.
#[derive(Clone, Copy, Default)]
struct Cursor(usize);

impl Cursor {
    /// The field that holds `at`; the masks make sure that there is one.
    fn field(&mut self, fields: &[Field], at: usize) -> usize {
        while self.0 + 1 < fields.len() && fields[self.0].end() <= at {
            self.0 += 1;
        }
        self.0
    }
}

#[derive(Default)]
struct Cursors {
    points: Cursor,
    operators: Cursor,
    digits: Cursor,
    at: Cursor,
    plus: Cursor,
    dashes: Cursor,
    flags: Cursor,
    sw: Cursor,
}

/// Bit i of the result: bit i of `now` and the `N - 1` bits before it are all set, where the steps double their number
/// up to `N`; `before` is the word before.
#[inline(always)]
fn long(before: u64, now: u64, steps: &[u32]) -> u64 {
    let mut w = u128::from(now) << 64 | u128::from(before);
    for step in steps {
        w &= w << step;
    }
    (w >> 64) as u64
}

/// The bits of `long` at which a stretch of at least `n` became long enough.
#[inline(always)]
fn rising(long: u64, before: u64, now: u64, n: usize) -> u64 {
    long & !(now << n | before >> (64 - n))
}

/// Steps that make [`LONG`] bits.
const TOKEN_STEPS: [u32; 4] = [1, 2, 4, 4];
const _: () = assert!(1 + 1 + 2 + 4 + 4 == LONG);
/// Digits and separators that make a group worth a look.
const GROUP: usize = 11;
const GROUP_STEPS: [u32; 4] = [1, 2, 4, 3];
const _: () = assert!(1 + 1 + 2 + 4 + 3 == GROUP);

/// Carries over the edge of two words of the masks.
#[derive(Default)]
struct Carry {
    group: u64,
    /// Separators of the word before, and those that stand far enough inside a run.
    separator: u64,
    token_word: u64,
    inner: u64,
    dash: u64,
    space: u64,
    digit: u64,
    skip: u64,
    s: u64,
}

/// Places of one block that most blocks do not have.
struct Rare {
    plus: u64,
    at: u64,
    dashes: u64,
    flags: u64,
    /// `ssw`, the middle of "password": its `s` before the `w`.
    ssw: u64,
}

/// A run that became long enough at `bit` of `now`: the separators among its first bytes, and whether letters and digits
/// mix in it, or may do so behind the end of this word.
#[inline(always)]
fn run_start(carry: &Carry, now: &simd::Block, bit: u32) -> (u32, bool) {
    const BACK: u32 = LONG as u32 - 1;
    let from = |before: u64, now: u64| match bit.checked_sub(BACK) {
        Some(n) => now >> n,
        None => before >> (64 + bit - BACK) | now << (BACK - bit),
    };
    let separators = from(carry.separator, now.separator);
    let early = separators as u32 & ((1 << BACK) - 1);
    // Only a run that has letters and digits can be more than a word or a number.
    if now.token >> bit == !0 >> bit {
        return (early, true);
    }
    let token = from(carry.token_word, now.token);
    if token == !0 {
        // The run ends in the bits that were shifted out.
        return (early, far_mixed(carry, now, bit));
    }
    let run = token & !(token + 1);
    let digits = from(carry.digit, now.digit) & run;
    (early, digits != 0 && run & !digits & !separators != 0)
}

#[cold]
fn far_mixed(carry: &Carry, now: &simd::Block, bit: u32) -> bool {
    let shift = 64 + bit - (LONG as u32 - 1);
    let from = |before: u64, now: u64| (u128::from(before) | u128::from(now) << 64) >> shift;
    let token = from(carry.token_word, now.token);
    let run = token & !(token + 1);
    let digits = from(carry.digit, now.digit) & run;
    digits != 0 && run & !digits & !from(carry.separator, now.separator) != 0
}

/// The places of the bits of a mask whose first bit is at `at`.
#[inline(always)]
fn places(at: usize, mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (mask != 0).then(|| at + mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        place
    })
}

/// Scans `fields` of `data` and appends hits.
pub(super) fn scan(
    catalog: &Catalog,
    data: &[u8],
    mut fields: &[Field],
    scratch: &mut Scratch,
    hits: &mut Vec<Hit>,
) -> Seen {
    let mut seen = Seen::default();
    scratch.memo.serve(&catalog.words);
    // A pass tells fields apart by the bytes between them; where there are none, another pass begins.
    while !fields.is_empty() {
        let touching = fields.windows(2).position(|w| w[0].end() >= w[1].start as usize);
        let (now, later) = fields.split_at(touching.map_or(fields.len(), |n| n + 1));
        let more = pass(catalog, data, now, scratch, hits);
        seen.markers += more.markers;
        seen.unscanned += more.unscanned;
        fields = later;
    }
    seen
}

fn pass(catalog: &Catalog, data: &[u8], fields: &[Field], scratch: &mut Scratch, hits: &mut Vec<Hit>) -> Seen {
    let (Some(first), Some(last)) = (fields.first(), fields.last()) else { return Seen::default() };
    let (begin, end) = (first.start as usize, last.end().min(data.len()));
    let masks = &mut scratch.masks;
    let mut scan = Scan {
        memo: &mut scratch.memo,
        catalog,
        data,
        begin,
        fields,
        spans: Spans::new(),
        spans_of: usize::MAX,
        found: Vec::new(),
        markers: Vec::new(),
        seen: Seen::default(),
        budget: 0,
        budget_of: usize::MAX,
        done: 0,
        closed: 0,
        edge: usize::MAX,
        bare: 0..0,
        valued: 0,
        pem_end: 0,
    };
    let mut cursors = Cursors::default();
    let mut carry = Carry::default();
    let mut inside = 0usize;
    let mut base = begin;
    while base < end {
        let stop = end.min(base + CHUNK + 64);
        let words = simd::classify(&data[base..stop], masks);
        while inside + 1 < fields.len() && fields[inside].end() <= base {
            inside += 1;
        }
        clip(masks, words, base, stop, &fields[inside..]);
        if let Some(behind) = masks.blocks.get_mut(words) {
            *behind = simd::Block::default();
        }
        let here = words.min(CHUNK / 64);
        scan.chunk(masks, here, base, &mut cursors, &mut carry);
        base += CHUNK;
    }
    for (i, field) in fields.iter().enumerate() {
        scan.whole_field(i, field);
    }
    scan.neighbours();
    resolve::resolve(&mut scan, hits);
    scan.seen.markers = u32::try_from(scan.markers.len()).unwrap_or(u32::MAX);
    scan.seen
}

/// Clears the bits of bytes outside the fields.
fn clip(masks: &mut Masks, words: usize, base: usize, stop: usize, fields: &[Field]) {
    match fields.first() {
        Some(f) if f.start as usize <= base && f.end() >= stop => return,
        _ => {}
    }
    let mut inside = [0u64; WORDS];
    for field in fields {
        let from = (field.start as usize).max(base);
        let to = field.end().min(stop);
        if from >= stop {
            break;
        }
        if from < to {
            set_bits(&mut inside, from - base, to - base);
        }
    }
    for (block, keep) in masks.blocks.iter_mut().zip(inside).take(words) {
        if keep != u64::MAX {
            block.keep(keep);
        }
    }
}

fn set_bits(words: &mut [u64], from: usize, to: usize) {
    let (first, last) = (from >> 6, (to - 1) >> 6);
    let head = !0u64 << (from & 63);
    let tail = !0u64 >> (63 - ((to - 1) & 63));
    if first == last {
        words[first] |= head & tail;
        return;
    }
    words[first] |= head;
    for word in &mut words[first + 1..last] {
        *word = !0;
    }
    words[last] |= tail;
}

impl<'a> Scan<'a> {
    fn chunk(&mut self, masks: &Masks, words: usize, base: usize, cursors: &mut Cursors, carry: &mut Carry) {
        for k in 0..words {
            let at = base + k * 64;
            let (now, next) = (&masks.blocks[k], &masks.blocks[k + 1]);
            let token = now.token;
            let separator = now.separator;
            // Bit i of `long`: byte i is at least the twelfth of a run of token characters.
            let long_token = long(carry.token_word, token, &TOKEN_STEPS);
            let rising_token = rising(long_token, carry.token_word, token, LONG);
            let inner = separator & long_token;
            // Places behind separators: of those where a token can begin only the first three bytes are asked here.
            let mut behind = (inner << 1 | carry.inner >> 63) & token;
            let mut points = rising_token;
            while behind != 0 {
                let bit = behind.trailing_zeros();
                behind &= behind - 1;
                points |= u64::from(self.may_be_point(at + bit as usize)) << bit;
            }
            while points != 0 {
                let bit = points.trailing_zeros();
                points &= points - 1;
                let place = at + bit as usize;
                if rising_token >> bit & 1 == 1 {
                    let (early, mixed) = run_start(carry, now, bit);
                    self.run(place + 1 - LONG, early, mixed, &mut cursors.points);
                } else {
                    self.point(place, &mut cursors.points);
                }
            }
            carry.separator = separator;
            carry.token_word = token;
            carry.inner = inner;

            let mut operators = now.operator;
            let mut named = 0;
            while operators != 0 {
                let bit = operators.trailing_zeros();
                operators &= operators - 1;
                let place = at + bit as usize;
                // The bytes before the operator from the top bit down.
                let before = carry.skip >> bit | now.skip << 1 << (63 - bit);
                let skipped = before.leading_ones() as usize;
                let yes = if place < self.begin + skipped + 4 {
                    assign::interesting(self.catalog, self.data, place)
                } else {
                    assign::interesting_behind(self.catalog, self.data, place, skipped)
                };
                named |= u64::from(yes) << bit;
            }
            if named != 0 {
                self.operators(at, named, &mut cursors.operators);
            }
            carry.skip = now.skip;

            // Digits with single spaces and dashes between them.
            let digit = now.digit;
            let after = digit >> 1 | next.digit << 63;
            if digit | carry.digit != 0 {
                let before = digit << 1 | carry.digit >> 63;
                let group = digit | (now.space | now.dash) & before & after;
                // Most numbers are short: few blocks get beyond four in a row.
                if long(carry.group, group, &GROUP_STEPS[..2]) != 0 {
                    let long_group = long(carry.group, group, &GROUP_STEPS);
                    let rising_group = rising(long_group, carry.group, group, GROUP);
                    if rising_group != 0 {
                        self.groups(at, rising_group, &mut cursors.digits);
                    }
                }
                carry.group = group;
            } else {
                carry.group = 0;
            }
            carry.digit = digit;

            // The last of four or five dashes; a dash behind a space and before something else.
            let dash = now.dash;
            let four =
                dash & (dash << 1 | carry.dash >> 63) & (dash << 2 | carry.dash >> 62) & (dash << 3 | carry.dash >> 61);
            let rare = Rare {
                plus: now.plus & after,
                at: now.at,
                dashes: four & !(dash >> 1 | next.dash << 63),
                flags: dash & (now.space << 1 | carry.space >> 63) & !(now.space >> 1 | next.space << 63),
                ssw: now.s & (now.s << 1 | carry.s >> 63) & (now.w >> 1 | next.w << 63),
            };
            carry.space = now.space;
            carry.dash = dash;
            carry.s = now.s;
            if rare.plus | rare.at | rare.dashes | rare.flags | rare.ssw != 0 {
                self.rare(at, rare, cursors);
            }
        }
    }

    /// Operators behind what may be names. This and what follows stays out of the loop over the blocks, which needs the
    /// registers.
    #[inline(never)]
    fn operators(&mut self, at: usize, named: u64, cursor: &mut Cursor) {
        for place in places(at, named) {
            let field = cursor.field(self.fields, place);
            assign::operator(self, field, place);
        }
    }

    /// Groups of digits, each long enough at a bit of `ends`.
    #[inline(never)]
    fn groups(&mut self, at: usize, ends: u64, cursor: &mut Cursor) {
        for last in places(at, ends) {
            let place = last + 1 - GROUP;
            let field = cursor.field(self.fields, place);
            personal::digits(self, field, place);
        }
    }

    /// What most blocks do not have.
    #[inline(never)]
    fn rare(&mut self, at: usize, rare: Rare, cursors: &mut Cursors) {
        let data = self.data;
        for place in places(at, rare.plus) {
            let field = cursors.plus.field(self.fields, place);
            personal::phone(self, field, place);
        }
        for place in places(at, rare.at) {
            let field = cursors.at.field(self.fields, place);
            personal::email(self, field, place);
        }
        for place in places(at, rare.dashes) {
            if data[place + 1..].starts_with(b"BEGIN") || data[place + 1..].starts_with(b" BEGIN") {
                let field = cursors.dashes.field(self.fields, place);
                structure::pem(self, field, place);
            }
        }
        for place in places(at, rare.flags) {
            if matches!(data.get(place + 1..place + 4), Some([b'u', ..] | [b'-', b'u', b's'])) {
                let field = cursors.flags.field(self.fields, place);
                assign::flag(self, field, place);
            }
        }
        for place in places(at, rare.ssw) {
            if place > 1 && data[place - 2] | 0x20 == b'a' {
                let field = cursors.sw.field(self.fields, place);
                assign::spoken_password(self, field, place);
            }
        }
    }

    /// A run of token characters that begins at `start`; bit i of `early` says that byte `start + i` is a separator.
    #[inline(never)]
    fn run(&mut self, start: usize, mut early: u32, mixed: bool, cursor: &mut Cursor) {
        let [a, b, c] = [self.data[start], self.data[start + 1], self.data[start + 2]];
        if start >= self.done && self.catalog.may_start(a, b, c) {
            let field = cursor.field(self.fields, start);
            self.candidate(field, start);
        }
        if a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() {
            let field = cursor.field(self.fields, start);
            personal::iban(self, field, start);
        }
        if start > 0
            && (RUN_AFTER[self.data[start - 1] as usize] && mixed || matches!(self.data[start - 1], b'\\' | b'%'))
        {
            let field = cursor.field(self.fields, start);
            self.run_start(field, start);
        }
        while early != 0 {
            let place = start + early.trailing_zeros() as usize + 1;
            early &= early - 1;
            if self.may_be_point(place) {
                self.point(place, cursor);
            }
        }
    }

    /// Whether [`Scan::point`] has anything to do at a place.
    #[inline(always)]
    fn may_be_point(&self, place: usize) -> bool {
        match self.data[place - 1..].first_chunk::<4>() {
            Some(&[before, a, b, c]) => self.catalog.may_start(a, b, c) | (before == b'~'),
            None => false,
        }
    }

    /// A place behind a separator in a run, where a token can begin.
    #[inline(never)]
    fn point(&mut self, place: usize, cursor: &mut Cursor) {
        let Some(&[a, b, c]) = self.data[place..].first_chunk::<3>() else { return };
        if place < self.done {
            return;
        }
        if self.catalog.may_start(a, b, c) {
            let field = cursor.field(self.fields, place);
            self.candidate(field, place);
        }
        if self.data[place - 1] == b'~' && place >= self.done {
            let field = cursor.field(self.fields, place);
            self.tilde(field, place);
        }
    }

    /// What only the start of a run can be: text glued to the end of an escape, a credential behind a scheme.
    fn run_start(&mut self, field: usize, place: usize) {
        let text = self.text(field);
        if place == text.low {
            return;
        }
        match self.data[place - 1] {
            b'\\' => {
                let skip = if self.data[place] == b'u' { 5 } else { 1 };
                self.glued(field, place + skip);
            }
            b'%' => self.glued(field, place + 2),
            // A value behind an operator is looked at from there.
            b'"' if place >= text.low + 2 && matches!(self.data[place - 2], b':' | b'=' | b'[' | b'{') => {}
            _ => assign::before_run(self, field, place),
        }
    }

    /// A place behind an escape whose last letters are token characters.
    fn glued(&mut self, field: usize, place: usize) {
        let high = self.text(field).high;
        if place + 3 <= high && place >= self.done {
            let [a, b, c] = [self.data[place], self.data[place + 1], self.data[place + 2]];
            if self.catalog.may_start(a, b, c) {
                self.candidate(field, place);
            }
        }
    }

    fn tilde(&mut self, field: usize, place: usize) {
        if self.data[..place - 1].last() != Some(&b'Q') {
            return;
        }
        let catalog = self.catalog;
        self.best(field, place, &catalog.tilde);
    }

    /// Tries the patterns anchored at a place.
    pub fn candidate(&mut self, field: usize, place: usize) {
        let catalog = self.catalog;
        let high = self.text(field).high;
        let mut place = place.max(self.closed);
        // What follows a token directly is looked at as well: once the token is a marker, it would stand alone.
        while place + 3 <= high {
            let (patterns, anchored) = catalog.starting(&self.data[place..high]);
            if patterns.is_empty() {
                // To find that out has its cost too.
                if anchored > 0 {
                    self.spend(field, best_work(anchored));
                }
                return;
            }
            if !self.best(field, place, patterns) {
                return;
            }
            place = self.done;
        }
    }

    /// Looks at numbers that touch a finding on either side.
    fn neighbours(&mut self) {
        // What is found beside a finding may touch the next one; the budget bounds the chain.
        let mut i = 0;
        let most = 2 * self.found.len();
        while i < self.found.len().min(most) {
            let Found { start, end, .. } = self.found[i];
            i += 1;
            let touches =
                |at: usize| self.data.get(at).is_some_and(|c| simd::CLASS[*c as usize] & simd::class::TOKEN != 0);
            if (start > 0 && touches(start - 1)) || touches(end) {
                let field = self.fields.partition_point(|f| f.end() <= start);
                if field < self.fields.len() && self.spend(field, 400) {
                    personal::beside(self, field, start, end);
                    self.tokens_before(field, start);
                }
            }
        }
    }

    /// Looks at the run of token characters that ends where a finding starts.
    fn tokens_before(&mut self, field: usize, start: usize) {
        let low = self.text(field).low;
        let is = |c: u8, classes: u8| simd::CLASS[c as usize] & classes != 0;
        let n = self.data[low..start].iter().rev().take(128).take_while(|&&c| is(c, simd::class::TOKEN)).count();
        let near = low.max(start.saturating_sub(80));
        let at = memchr::memrchr(b'@', &self.data[near..start]).map(|n| near + n);
        if n < LONG && at.is_none() {
            return;
        }
        let done = self.done;
        (self.edge, self.spans_of) = (start, usize::MAX);
        if let Some(at) = at {
            personal::email(self, field, at);
        }
        for place in start - n..(start - n).max(start.saturating_sub(3)) {
            let begins = place == start - n || is(self.data[place - 1], simd::class::SEPARATOR);
            if begins && self.catalog.may_start(self.data[place], self.data[place + 1], self.data[place + 2]) {
                self.candidate(field, place);
            }
        }
        (self.edge, self.spans_of) = (usize::MAX, usize::MAX);
        self.done = done;
    }

    /// Looks at what follows a finding that ends at `end`, as the next pass would.
    fn follow(&mut self, end: usize) {
        let field = self.fields.partition_point(|f| f.end() <= end);
        let Some(f) = self.fields.get(field) else { return };
        if end <= f.start as usize || end + 3 > f.end() {
            return;
        }
        if self.catalog.may_start(self.data[end], self.data[end + 1], self.data[end + 2]) {
            let done = self.done;
            self.done = end;
            self.candidate(field, end);
            // Nothing found there leaves everything before it to be looked at.
            self.done = if self.done > end { self.done.max(done) } else { done };
        }
    }

    /// Tries the patterns anchored at an operator; true when one holds.
    pub fn at_operator(&mut self, field: usize, operator: usize) -> bool {
        let catalog = self.catalog;
        let yes = operator >= self.text(field).low + 3
            && self.best(field, operator + 1, catalog.at_operator(&self.data[operator - 3..=operator]));
        if yes {
            self.follow(self.done);
        }
        yes
    }

    /// The first pattern that holds wins; one of which only the beginning is there counts when no other holds.
    fn best(&mut self, field: usize, place: usize, patterns: &[u16]) -> bool {
        if patterns.is_empty() || !self.spend(field, best_work(patterns.len())) {
            return false;
        }
        let mut cut = None;
        for &p in patterns {
            match self.matches(field, place, p) {
                Matched::No => {}
                Matched::Whole(end) => {
                    if self.attempt(field, place, p, end, true) {
                        return true;
                    }
                }
                Matched::Cut(end) => cut = cut.or(Some((p, end))),
            }
        }
        cut.is_some_and(|(p, end)| self.attempt(field, place, p, end, false))
    }

    fn matches(&mut self, field: usize, place: usize, p: u16) -> Matched {
        let catalog = self.catalog;
        let pattern = &catalog.patterns[p as usize];
        let text = self.text_with_spans(field);
        match forwards(&pattern.forward, &catalog.sets, &mut self.spans, &text, place, pattern.open) {
            Matched::Cut(_) if !pattern.cuttable => Matched::No,
            Matched::Cut(end) if end < place + pattern.lead + CUT_LEAST && pattern.back.is_empty() => Matched::No,
            matched => matched,
        }
    }

    fn attempt(&mut self, field: usize, place: usize, p: u16, end: usize, whole: bool) -> bool {
        let catalog = self.catalog;
        let pattern = &catalog.patterns[p as usize];
        let text = self.text(field);
        let mut start = place;
        if !pattern.back.is_empty() {
            match backwards(&pattern.back, &catalog.sets, &text, place, pattern.open) {
                Some(from) => start = from,
                None => return false,
            }
        }
        // A full stop at the end of a sentence is not part of a token.
        let mut end = end;
        while end > start && self.data[end - 1] == b'.' {
            end -= 1;
        }
        let token = &self.data[start..end];
        let enough = pattern.cuttable && end >= start + pattern.lead + CUT_LEAST;
        if !(whole || enough) {
            return false;
        }
        if super::gate::filler(&token[pattern.lead.min(token.len())..]) || catalog.words.is_published(token) {
            return false;
        }
        let mut confidence = Confidence::Medium;
        let mut weight = 3;
        if let (Some(check), true) = (pattern.check, whole) {
            if !self.spend(field, 400 + 2 * token.len().min(4096)) {
                return true;
            }
            match check.judge(token) {
                Verdict::Proved => (confidence, weight) = (Confidence::High, 4),
                Verdict::Plausible => {}
                Verdict::Refused => return false,
            }
        }
        // The letter of an escape (`\npm_…`) stays, or what is left of it would escape the marker.
        let start = start + assign::escape_letters(self.data, text.low, start).min(end - start);
        self.found.push(Found { start, end, rule: pattern.rule, confidence, weight });
        self.done = end;
        true
    }

    /// What the ends of a field and its key say about it.
    fn whole_field(&mut self, index: usize, field: &Field) {
        let text = self.text(index);
        if field.key_len > 0 {
            assign::keyed_field(self, index, field);
        }
        let bytes = &self.data[text.low..text.high];
        let is = |c: u8, classes: u8| simd::CLASS[c as usize] & classes != 0;
        // The cheap look before an operator reads four bytes, of which some stand before the field here.
        if bytes.iter().take(5).skip(1).fold(false, |any, &c| any | is(c, simd::class::OPERATOR)) {
            for place in text.low + 1..text.high.min(text.low + 5) {
                if is(self.data[place], simd::class::OPERATOR) {
                    self.valued = 0;
                    assign::operator(self, index, place);
                }
            }
        }
        // A run too short for the masks may still be a token that the end of the field cut.
        let n = LONG - 1;
        const _: () = assert!(CUT_LEAST + 3 == LONG - 1);
        let Some(tail) = bytes.last_chunk::<{ LONG - 1 }>() else { return };
        let run = tail.iter().fold(!0, |all, &c| all & if is(c, simd::class::TOKEN) { !0u8 } else { 0 }) != 0;
        let longer = bytes.len() > n && is(bytes[bytes.len() - n - 1], simd::class::TOKEN);
        if run && !longer {
            self.done = 0;
            let start = text.high - n;
            for place in start..text.high - CUT_LEAST {
                let class =
                    if place == start { simd::class::SEPARATOR } else { simd::CLASS[self.data[place - 1] as usize] };
                if class & simd::class::SEPARATOR != 0 {
                    self.glued(index, place);
                }
            }
            if start > text.low && self.data[start - 1] == b'\\' {
                self.glued(index, start + 1);
            }
        }
    }

    /// The text of a field.
    pub fn text(&self, field: usize) -> Text<'a> {
        let f = &self.fields[field];
        Text { data: self.data, low: f.start as usize, high: f.end().min(self.data.len()).min(self.edge) }
    }

    /// Takes `work` (one unit is about half a nanosecond) from the budget of a field. When it is used up, masks the
    /// field and says no.
    #[inline]
    pub fn spend(&mut self, field: usize, work: usize) -> bool {
        if self.budget_of == field && self.budget >= work {
            self.budget -= work;
            return true;
        }
        self.spend_slowly(field, work)
    }

    #[cold]
    fn spend_slowly(&mut self, field: usize, work: usize) -> bool {
        let text = self.text(field);
        // Loops over different classes may go back to an earlier field of the same chunk; its budget starts anew, which
        // a chunk's length bounds.
        if self.budget_of != field {
            self.budget_of = field;
            self.budget = WORK_FIXED + WORK_PER_BYTE * (text.high - text.low);
        }
        if self.closed < text.high && self.budget >= work {
            self.budget -= work;
            return true;
        }
        if self.closed < text.high {
            self.closed = text.high;
            let rule = self.catalog.rule_of(Detector::Unscanned);
            self.found.push(Found { start: text.low, end: text.high, rule, confidence: Confidence::Low, weight: 5 });
            self.seen.unscanned += 1;
        }
        self.budget = 0;
        false
    }

    /// Adds a finding of a detector.
    pub fn add(&mut self, detector: Detector, place: Range<usize>, confidence: Confidence, weight: u8) {
        // A named value that an earlier pass made a marker is done.
        let named = matches!(
            detector,
            Detector::Password | Detector::Secret | Detector::Authorization | Detector::Cookie | Detector::UrlPassword
        );
        if named && marker::is_all_of(&self.catalog.rules, self.data, place.clone()) {
            return;
        }
        if place.start < place.end {
            let rule = self.catalog.rule_of(detector);
            self.found.push(Found { start: place.start, end: place.end, rule, confidence, weight });
            self.follow(place.end);
        }
    }

    /// A field, with `spans` ready for it: they are remembered within one field only.
    #[inline]
    fn text_with_spans(&mut self, field: usize) -> Text<'a> {
        if self.spans_of != field {
            self.spans.clear();
            self.spans_of = field;
        }
        self.text(field)
    }

    /// Tries a contextual pattern on a whole value; true when it is one.
    pub fn contextual(&mut self, field: usize, value: Range<usize>, p: u16) -> bool {
        let catalog = self.catalog;
        let pattern = &catalog.patterns[p as usize];
        let text = self.text_with_spans(field);
        let Matched::Whole(end) = forwards(&pattern.forward, &catalog.sets, &mut self.spans, &text, value.start, false)
        else {
            return false;
        };
        let token = &self.data[value.start..end];
        if super::gate::filler(token) || catalog.words.is_published(token) {
            return false;
        }
        if pattern.check.is_some_and(|check| check.judge(token) == Verdict::Refused) {
            return false;
        }
        self.found.push(Found {
            start: value.start,
            end,
            rule: pattern.rule,
            confidence: Confidence::Medium,
            weight: 2,
        });
        true
    }

    /// Notes an own marker whose `:` is at `place`.
    pub fn marker(&mut self, field: usize, place: usize) -> bool {
        let text = self.text(field);
        match marker::at_colon(&self.catalog.rules, text.data, text.low, text.high, place) {
            Some(range) => {
                self.markers.push(range);
                true
            }
            None => false,
        }
    }
}

/// Bytes before a run that make its start worth a look.
const RUN_AFTER: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b" >(`\"'*[";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
};

/// A cut token must show so many characters behind its prefix.
const CUT_LEAST: usize = 8;
