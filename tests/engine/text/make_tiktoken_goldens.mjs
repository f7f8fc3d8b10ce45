// Writes tiktoken_goldens.json: token ids of js-tiktoken's gpt2 encoding.
//
//   npm install js-tiktoken@1.0.21        (in any directory, DIR below)
//   node make_tiktoken_goldens.mjs DIR [novels.txt] > tiktoken_goldens.json
//
// cases:  [text, repeat, ids]: `text` written `repeat` times in a row.
// novels: of the first 1 000 000 bytes of novels.txt, cut back to a whole
//         character: their length and SHA-256, the number of ids and the
//         SHA-256 of the ids as little-endian 32-bit integers.
//
// Every character is assigned in Unicode 14, so that the Unicode versions of
// PCRE2 10.42 (14) and of the JavaScript engine (15 or later) agree on it.
import {createHash} from 'node:crypto';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {resolve} from 'node:path';

const require = createRequire(resolve(process.argv[2], 'package.json'));
const {getEncoding} = require('js-tiktoken');
const encoding = getEncoding('gpt2');
const encode = (text) => encoding.encode(text, [], []);

const sentences = [
  // Latin
  '', ' ', 'a', 'Hello, world!', 'hello world', 'HELLO WORLD', 'Hello World',
  'The quick brown fox jumps over the lazy dog.',
  'camelCase snake_case SCREAMING_CASE kebab-case dotted.name',
  'supercalifragilisticexpialidocious antidisestablishmentarianism',
  'na\u00efve caf\u00e9 r\u00e9sum\u00e9 \u00c5ngstr\u00f6m stra\u00dfe',
  'Za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105 ja\u017a\u0144',
  'P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148',
  '\u0130stanbul \u0131\u015f\u0131k', '\u1e9e \u01c5 \u02b0 \u00aa \u00ba',
  'Ti\u1ebfng Vi\u1ec7t: xin ch\u00e0o th\u1ebf gi\u1edbi',
  'fi\ufb01 \uff21\uff22\uff43 \ud835\udc00\ud835\udd38',
  // other scripts
  '\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!',
  '\u0421\u044a\u0435\u0448\u044c \u0436\u0435 \u0435\u0449\u0451 \u044d\u0442\u0438\u0445',
  '\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03cc\u03c3\u03bc\u03b5',
  '\u1f00\u03c1\u03c7\u1fc7 \u1f26\u03bd \u1f41 \u03bb\u03cc\u03b3\u03bf\u03c2',
  '\u0633\u0644\u0627\u0645 \u062f\u0646\u06cc\u0627',
  '\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c',
  '\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd',
  '\u05d1\u05bc\u05b0\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea',
  '\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e',
  '\u09b9\u09cd\u09af\u09be\u09b2\u09cb \u09ac\u09bf\u09b6\u09cd\u09ac',
  '\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0bae\u0bca\u0bb4\u0bbf',
  '\u0c24\u0c46\u0c32\u0c41\u0c17\u0c41 \u0c95\u0ca8\u0ccd\u0ca8\u0ca1',
  '\u0d2e\u0d32\u0d2f\u0d3e\u0d33\u0d02 \u0dc3\u0dd2\u0d82\u0dc4\u0dbd',
  '\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01',
  '\u0eaa\u0eb0\u0e9a\u0eb2\u0e8d\u0e94\u0eb5', '\u1798\u17b6\u1793 \u1780\u17d2\u179a',
  '\u1019\u103c\u1014\u103a\u1019\u102c', '\u0f56\u0f7c\u0f51\u0f0b\u0f66\u0f90\u0f51\u0f0b',
  '\u4f60\u597d\uff0c\u4e16\u754c\uff01', '\u7e41\u9ad4\u4e2d\u6587 \u7b80\u4f53\u4e2d\u6587',
  '\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3001\u30ab\u30bf\u30ab\u30ca\u30fc',
  '\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4', '\u1112\u1161\u11ab\u1100\u1173\u11af',
  '\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0', '\u0532\u0561\u0580\u0565\u0582 \u0571\u0565\u0566',
  '\u1230\u120b\u121d \u12d3\u1208\u121d', '\u13a3\u13b3\u13a9 \u13a6\u13ec\u13c2\u13af\u13cd\u13d7',
  '\u1401\u14c4\u1483\u144e\u1450\u1466', '\u16a0\u16a2\u16a6\u16a8\u16b1\u16b2',
  '\u1826\u182f\u1830\u1824\u180e\u182f', '\u2d30\u2d4e\u2d30\u2d63\u2d49\u2d56',
  '\ud800\udf30\ud800\udf31\ud800\udf32 \ud801\udc00\ud801\udc28', '\ud808\udc00\ud80c\udc00',
  '\ud840\udc00\ud869\uded6\ud87a\udfe0', '\ua9b2\ua9ba \ua984',
  // emoji
  '\ud83d\ude00', 'ok \ud83d\udc4d\ud83c\udffd done', '\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67\u200d\ud83d\udc66',
  '\ud83c\uddeb\ud83c\uddf7\ud83c\uddef\ud83c\uddf5', '\u2764\ufe0f\u200d\ud83d\udd25', '1\ufe0f\u20e3 #\ufe0f\u20e3',
  '\ud83c\udff4\udb40\udc67\udb40\udc62\udb40\udc65\udb40\udc6e\udb40\udc67\udb40\udc7f', '\ud83e\udee0\ud83e\udd8a \ud83e\uddd1\u200d\ud83d\ude80',
  '\u263a\ufe0e \u2603 \u2605', 'a\ud83d\ude00b \ud83d\ude00 c',
  // numbers
  '0', '1234567890', '3.14159', '1,000,000', '2026-11-22', '1st 2nd 3rd', 'x1y22z333',
  '\u0661\u0662\u0663 \u06f4\u06f5', '\u0967\u0968\u0969', '\u0e51\u0e52\u0e53', '\u2160\u2161\u2162 \u217b', '\u00bd \u00b2\u00b3 \u00b9',
  '\u2460\u2461 \u3007 \u3220', '\uff11\uff12\uff13', '\ud835\udfce\ud835\udfcf', '12\u066334', '\u16ee \u3021 \u0bf0',
  // contractions
  "I'm you're he's she'd we'll they've isn't", "I'M YOU'RE HE'S SHE'D WE'LL THEY'VE ISN'T",
  "'s 't 're 've 'm 'll 'd", "'S 'T 'Re", "x's's's", "''s", "'", "''", "' s", "'sa 'da 'lla", "a'b'c", "'l 'v 'r", "'le 'vr",
  "l'\u00e9t\u00e9", "\u2019s don\u2019t", "it 's", "!'s", "\n's", "1's", "'1s", "  's", "''ll", "'re've", "rock'n'roll 'twas",
  // punctuation and symbols
  '...', '!!!???', '(a) [b] {c} <d>', 'a+b=c*d/e-f%g^h', '$100 \u20ac50 \u00a330 \u00a51000', '\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2013',
  'https://example.org/path?x=1&y=2#z', 'user@example.org', 'C:\\dir\\file.txt', '<|endoftext|>', 'a<|endoftext|>b', '<|endoftext', '<div class="x">&amp;</div>',
  '#include <stdio.h>\nint main(void) {\n\treturn 0;\n}\n', 'def f(x):\n    return x ** 2\n', '{"key": [1, 2.5, null]}', '~`@#$%^&*()_+-=[]{}|;:,./<>?',
  '\u2200x\u2208\u211d: x\u00b2 \u2265 0', '\u2192 \u21d2 \u2211 \u222b', '\u00a9 \u00ae \u2122 \u00a7 \u00b6', '\u00a1hola! \u00bfqu\u00e9?',
  // combining marks
  'e\u0301', 'e\u0301\u0302\u0303', '\u0301', ' \u0301a', 'a\u0308\u0304 o\u0308', 'Z\u0351\u036b\u0343a\u0321l\u0316g\u0332o\u0325', '\u0915\u093c\u094d', '1\u0301 2\u20dd', '\u0f71\u0f72',
  // white space
  '  ', '   ', '\t', '\n', '\r', '\r\n', '\n\n', '\n\n\n', '\t\t\tx', ' \t \n x', 'a b', 'a  b', 'a   b', 'a\tb', 'a\n b', 'a \nb', 'a\n\nb',
  'a ', 'a  ', 'a \n', 'a\n ', ' a', '  a', '\n a', '\n  a', ' \n', 'a\r\nb\r\n', 'a\u00a0b', 'a \u00a0b', 'a\u00a0 b', '\u00a0', '\u00a0\u00a0x', ' \u00a0',
  'a\u2028b', 'a\u2029b', '\u2028\u2029', 'a \u2028 b', '\u3000', '\u3000\u4f60\u3000\u3000\u597d', '\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200ax',
  '\u202fa\u205fb', 'a\u0085b', '\u0085', ' \u0085x', '\u0085\u0085 x', 'a\u200bb', ' \u200b', 'a\u180eb', ' \u180e', '\ufeffa', '\ufeff', '\ufeff\ufeffa', 'a \ufeff b', '\ufeff x',
  'a\u000bb', 'a\u000cb', '\u000b\u000c', 'x \u000b y', 'a\u2060b', '\n\t\n\t', '1 2  3   4', '! !  !', ' !', '  !', ' 1', '  1', "  'x", ' \n\u00e9',
  // control and odd characters
  '\u0000', 'a\u0000b', '\u0000\u0000', '\u0001\u0002\u0003', '\u001b[31mred\u001b[0m', '\u007f', '\u0080\u009f', '\u001c\u001d\u001e\u001f', 'a\u001cb', ' \u0000',
  '\u00ad', 'soft\u00adhyphen', '\u200d', '\u200e\u200f', '\u202a\u202e', '\ufffd', '\ufffc', '\uffff', '\ufdd0', '\ue000', '\udbff\udfff', '\udb80\udc00', '\u0378',
];

const repeated = [
  ['a', 10], ['a', 100], ['a', 2000], ['A', 500], ['z', 501], ['ab', 400], ['the', 300], ['\u00e9', 300], ['\u4e00', 200], ['\ud83d\ude00', 100],
  [' ', 2], [' ', 3], [' ', 16], [' ', 17], [' ', 1000], ['\n', 50], ['\n', 1000], ['\t', 300], ['\r\n', 100], ['\u00a0', 100], ['\u2003', 60], [' \n', 100],
  ['0', 400], ['123', 200], ['!', 500], ['-', 700], ['=', 129], ['_', 64], ['.', 333], ["'", 100], ["'s", 100], ['a ', 300], [' a', 300], ['a  ', 200], ['\u0301', 100], ['x!', 200],
  ['\ufeff', 20], ['\u0085', 20], ['\u0000', 30],
];

// Mixtures by a fixed linear congruential generator (Numerical Recipes').
let state = 20261122;
const random = (n) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor(state / 4294967296 * n);
};
const atoms = [...sentences.filter((s) => s.length > 0 && s.length < 9), ' ', ' ', ' ', '\n', "'s", "'ll", 'the', ' of', 'ing', '\u00e9', '\u4e16', '42', '...'];
const mixtures = [];
for (let i = 0; i < 120; ++i) {
  let text = '';
  for (let k = 2 + random(14); k > 0; --k) text += atoms[random(atoms.length)];
  mixtures.push(text);
}

const cases = [
  ...sentences.map((text) => [text, 1]), ...repeated,
  ...mixtures.map((text) => [text, 1]),
].map(([text, repeat]) => [text, repeat, encode(text.repeat(repeat))]);

let novels = null;
if (process.argv[3]) {
  const whole = readFileSync(process.argv[3]);
  let size = 1000000;
  while ((whole[size] & 0xc0) === 0x80) --size;
  const bytes = whole.subarray(0, size);
  const ids = encode(bytes.toString('utf8'));
  const sha256 = (data) => createHash('sha256').update(data).digest('hex');
  novels = {
    bytes: size, text_sha256: sha256(bytes), tokens: ids.length,
    ids_sha256: sha256(Buffer.from(Int32Array.from(ids).buffer)),
  };
}

// ASCII only: every other character as \u escapes.
const ascii = (value) => JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
process.stdout.write(`{"novels": ${ascii(novels)},\n"cases": [\n` +
                     cases.map(ascii).join(',\n') + '\n]}\n');
