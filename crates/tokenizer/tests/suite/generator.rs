//! The strings of `tools/golden/harmony/tokenizer_corpus.py`, generated again: every function follows its namesake there.

/// Strings by pseudo-random choice.
pub(crate) const RANDOM_STRINGS: u64 = 12_000;

const BLOCK: u32 = 64;
const CODE_POINT_RANGES: [(u32, u32); 3] = [(0, 0x3FFFF), (0xE0000, 0xE01FF), (0x10FF00, 0x10FFFF)];

#[rustfmt::skip]
const SCRIPTS: [(u32, u32); 45] = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x1C4, 0x1F3), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF),
    (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
    (0x13A0, 0x13FF), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2800, 0x28FF), (0x3000, 0x303F), (0x3040, 0x30FF),
    (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xAC00, 0xD7AF), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF),
    (0x10330, 0x1034F), (0x10400, 0x1044F), (0x12000, 0x123FF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF), (0xE0100, 0xE01EF),
];
#[rustfmt::skip]
const SPACES: [&str; 21] = [
    " ", " ", " ", "\t", "\n", "\n", "\r", "\r\n", "\u{a0}", "\u{2003}", "\u{3000}", "\u{85}", "\u{2028}", "\x0b",
    "a", "1", ".", "/", "Ж", "字", "'s",
];
#[rustfmt::skip]
const CASED: [&str; 36] = [
    "a", "b", "z", "A", "B", "Z", "ß", "É", "é", "Ж", "ж", "ǅ", "ǈ", "ʰ", "ª", "ひ", "字", "\u{301}", "\u{20e3}",
    "'s", "'S", "'T", "'re", "'rE", "'Ve", "'m", "'LL", "'ll", "'d", "'x", "'ſ", "'", "’s", " ", "-", "1",
];
#[rustfmt::skip]
const DIGITS: [&str; 20] = [
    "0", "1", "7", "99", "123", "4567", "٣", "५", "Ⅳ", "½", "²", "𝟘", "㊿", ".", ",", " ", "e", "-", "x", "/",
];
#[rustfmt::skip]
const EMOJI: [&str; 18] = [
    "😀", "👍", "🏽", "\u{200d}", "\u{fe0f}", "❤", "🏳", "🌈", "🇷", "🇺", "👩", "👧", "🔥", "#", "\u{20e3}", "1", " ",
    "\u{e0067}",
];

struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    fn code_point(&mut self, (low, high): (u32, u32)) -> char {
        char::from_u32(low + self.below(u64::from(high - low + 1)) as u32).unwrap_or('\u{fffd}')
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn repeat(&mut self, count: u64, mut one: impl FnMut(&mut Self) -> String) -> String {
        (0..count).map(|_| one(self)).collect()
    }
}

pub(crate) fn random_string(index: u64, fragments: &[&str]) -> String {
    let mut rng = SplitMix64::new(index + 1);
    let count = 1 + rng.below(40);
    match index % 12 {
        0 => {
            let script = *rng.pick(&SCRIPTS);
            rng.repeat(count, |rng| rng.code_point(script).into())
        }
        1 => rng.repeat(count, |rng| {
            let script = *rng.pick(&SCRIPTS);
            rng.code_point(script).into()
        }),
        2 => rng.repeat(1 + count / 4, |rng| [*rng.pick(fragments), *rng.pick(&SPACES)].concat()),
        3 => {
            let bytes: Vec<u8> = (0..count).map(|_| rng.byte()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        4 => rng.repeat(count, |rng| (*rng.pick(&SPACES)).into()),
        5 => rng.repeat(count, |rng| (*rng.pick(&CASED)).into()),
        6 => rng.repeat(count, |rng| (*rng.pick(&DIGITS)).into()),
        7 => rng.repeat(count, |rng| (*rng.pick(&EMOJI)).into()),
        8 => rng.repeat(1 + count / 4, |rng| {
            let indent = "    ".repeat(rng.below(5) as usize);
            let line = [indent.as_str(), *rng.pick(fragments)].concat();
            line + &"\n".repeat(rng.below(3) as usize)
        }),
        9 => rng.repeat(count, |rng| rng.code_point((0, 0x10FFFF)).into()),
        10 => {
            let count = 1 + rng.below(3);
            let unit = rng.repeat(count, |rng| (*rng.pick(&CASED)).into());
            unit.repeat(1 + rng.below(300) as usize)
        }
        _ => mutated_fragments(&mut rng, fragments),
    }
}

fn mutated_fragments(rng: &mut SplitMix64, fragments: &[&str]) -> String {
    let mut text = [*rng.pick(fragments), " ", *rng.pick(fragments)].concat().into_bytes();
    for _ in 0..1 + rng.below(4) {
        let value = rng.byte();
        let at = rng.below(text.len() as u64) as usize;
        text[at] = value;
    }
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn code_point_strings() -> impl Iterator<Item = String> {
    let blocks = CODE_POINT_RANGES.into_iter().flat_map(|(low, high)| (low..=high).step_by(BLOCK as usize));
    blocks.filter(|start| !(0xD800..=0xDFFF).contains(start)).flat_map(|start| {
        let chars = move || (start..start + BLOCK).filter_map(char::from_u32);
        [chars().collect(), chars().map(|c| format!("xA{c}a{c} ")).collect()]
    })
}

pub(crate) fn long_words() -> Vec<String> {
    let mut rng = SplitMix64::new(2_026);
    let mut random = |count: u64, low: u32, letters: u64| {
        rng.repeat(count, |rng| char::from_u32(low + rng.below(letters) as u32).expect("a letter").into())
    };
    vec![
        "a".repeat(200_000),
        "A".repeat(200_000),
        "ab".repeat(100_000),
        "ひ".repeat(66_000),
        random(200_000, 97, 26),
        random(200_000, 97, 2),
        random(100_000, 0x430, 32),
        random(66_000, 0x4E00, 2_000),
        random(60_000, 0, 2).replace('\0', "A").replace('\u{1}', "ひ"),
        "=".repeat(200_000),
        "-=".repeat(100_000),
        "\u{301}".repeat(100_000),
        "\n".repeat(200_000),
        "7".repeat(200_000),
        "/".repeat(200_000),
        "\n/".repeat(50_000),
        " ".repeat(200_000) + "x",
        "\u{3000}".repeat(66_000),
    ]
}
