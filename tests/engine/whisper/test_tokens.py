"""Tokens: published ids, prompts, control tokens that nobody can type, and words that lose nothing."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from captiond_engine.errors import ModelError
from captiond_engine.models import BUNDLED
from captiond_engine.types import PromptSpec
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.languages import LANGUAGE_CODES
from captiond_engine.whisper.tokens import MAX_HINT_TOKENS, WhisperTokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.whisper import files

ENGLISH, MULTILINGUAL, LARGE_V3 = 51_864, 51_865, 51_866
ALL = (ENGLISH, MULTILINGUAL, LARGE_V3)


def config_of(vocabulary: int) -> WhisperConfig:
    return WhisperConfig(80, 1500, 384, 6, 4, vocabulary, 448, 384, 6, 4)


@cache
def tokenizer_of(vocabulary: int) -> WhisperTokenizer:
    return WhisperTokenizer.from_published(config_of(vocabulary))


every_vocabulary = pytest.mark.parametrize("vocabulary", ALL)


# --- published facts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [  # end, start, translate, transcribe, lm, previous, no speech, no timestamps, languages
        (ENGLISH, (50_256, 50_257, 50_357, 50_358, 50_359, 50_360, 50_361, 50_362, 99)),
        (MULTILINGUAL, (50_257, 50_258, 50_358, 50_359, 50_360, 50_361, 50_362, 50_363, 99)),
        (LARGE_V3, (50_257, 50_258, 50_359, 50_360, 50_361, 50_362, 50_363, 50_364, 100)),
    ],
)
def test_ids_of_the_special_tokens(vocabulary: int, expected: tuple[int, ...]) -> None:
    tokenizer = tokenizer_of(vocabulary)
    assert expected == (
        tokenizer.end_of_text,
        tokenizer.start_of_transcript,
        tokenizer.translate,
        tokenizer.transcribe,
        tokenizer.start_of_lm,
        tokenizer.start_of_previous,
        tokenizer.no_speech,
        tokenizer.no_timestamps,
        len(tokenizer.languages),
    )
    assert tokenizer.multilingual == (vocabulary != ENGLISH)


def test_language_tokens() -> None:
    tokenizer = tokenizer_of(MULTILINGUAL)
    assert tokenizer.language_token("en") == 50_259
    assert tokenizer.language_token("de") == 50_261
    assert tokenizer.language_token("su") == 50_357
    assert tokenizer_of(LARGE_V3).language_token("yue") == 50_358
    assert [tokenizer.language_of(tokenizer.language_token(code)) for code in tokenizer.languages] == list(
        tokenizer.languages
    )
    assert tokenizer.language_of(tokenizer.start_of_transcript) is None


@pytest.mark.parametrize("code", ["yue", "EN", "english", "", "transcribe", "endoftext", "en|><|de"])
def test_an_unknown_language_is_refused(code: str) -> None:
    with pytest.raises(ModelError, match="does not know the language") as caught:
        tokenizer_of(MULTILINGUAL).language_token(code)
    assert caught.value.code == "language_unknown"
    assert "en, zh, de" in caught.value.advice


@pytest.mark.parametrize(
    ("vocabulary", "first"), [(ENGLISH, 50_363), (MULTILINGUAL, 50_364), (LARGE_V3, 50_365)]
)
def test_timestamps_are_the_last_1501_tokens(vocabulary: int, first: int) -> None:
    timestamps = tokenizer_of(vocabulary).timestamps
    assert (timestamps[0], len(timestamps), timestamps[-1]) == (first, 1501, vocabulary - 1)
    assert not any(tokenizer_of(vocabulary).is_text(token) for token in timestamps)


@pytest.mark.parametrize("vocabulary", [51_863, 50_000, 51_867, 1])
def test_a_vocabulary_that_was_never_published(vocabulary: int) -> None:
    with pytest.raises(ModelError, match=str(vocabulary)) as caught:
        WhisperTokenizer.from_published(config_of(vocabulary))
    assert caught.value.advice


# --- prompts -----------------------------------------------------------------------------------------


def test_an_english_prompt_names_neither_language_nor_task() -> None:
    tokenizer = tokenizer_of(ENGLISH)
    assert tokenizer.prompt(PromptSpec(), language="en") == ([50_257, 50_362], 0)
    assert tokenizer.prompt(PromptSpec("de"), language="de") == ([50_257, 50_362], 0)


def test_a_multilingual_prompt() -> None:
    tokenizer = tokenizer_of(MULTILINGUAL)
    assert tokenizer.prompt(PromptSpec(), language="de") == ([50_258, 50_261, 50_359, 50_363], 0)
    assert tokenizer.prompt(PromptSpec(), language=None) == ([50_258, 50_259, 50_359, 50_363], 0)
    translated = tokenizer.prompt(PromptSpec(task="translate"), language="de")
    assert translated == ([50_258, 50_261, 50_358, 50_363], 0)


def test_hints_stand_before_and_the_prefix_after() -> None:
    tokenizer = tokenizer_of(MULTILINGUAL)
    prefix = tuple(tokenizer.encode(" Good morning"))
    tokens, start = tokenizer.prompt(PromptSpec("en", prefix, "  Ada Lovelace \n"), language="en")
    hints = tokenizer.encode(" Ada Lovelace")
    assert tokens == [50_361, *hints, 50_258, 50_259, 50_359, 50_363, *prefix]
    assert tokens[start] == tokenizer.start_of_transcript


@pytest.mark.parametrize("blank", ["", " ", "\n\t  "])
def test_blank_hints_are_none(blank: str) -> None:
    assert tokenizer_of(ENGLISH).prompt(PromptSpec(hints=blank), language="en") == ([50_257, 50_362], 0)


def test_long_hints_keep_their_end() -> None:
    tokenizer = tokenizer_of(ENGLISH)
    hints = " ".join(f"name{i}" for i in range(400))
    tokens, start = tokenizer.prompt(PromptSpec(hints=hints), language="en")
    assert start == MAX_HINT_TOKENS == 224
    assert tokens[1:start] == tokenizer.encode(" " + hints)[-223:]
    assert tokens[start:] == [50_257, 50_362]


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from(sorted(tokenizer_of(MULTILINGUAL).specials))),
        max_size=12,
    ),
    vocabulary=st.sampled_from(ALL),
)
def test_nobody_types_a_control_token(pieces: list[str], vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    typed = " ".join(pieces)
    assert all(token < tokenizer.end_of_text for token in tokenizer.encode(typed))
    tokens, start = tokenizer.prompt(PromptSpec(hints=typed), language="en")
    assert start <= MAX_HINT_TOKENS
    assert all(token < tokenizer.end_of_text for token in tokens[1:start])


# --- text to tokens and back -------------------------------------------------------------------------

anything = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=200, deadline=None)
@given(text=anything, vocabulary=st.sampled_from(ALL))
@example("<|endoftext|><|0.00|><|de|>", MULTILINGUAL)
@example("\x00\ufeff ﷽ 👩🏽‍🚒 e\u0301 \r\n", ENGLISH)
def test_text_comes_back(text: str, vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@every_vocabulary
def test_specials_and_timestamps_are_left_out(vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    plain = tokenizer.encode(" a word")
    mixed = [tokenizer.start_of_transcript, *plain, vocabulary - 1, tokenizer.end_of_text]
    assert tokenizer.decode(mixed) == " a word"
    assert tokenizer.split_words(mixed) == tokenizer.split_words(plain)


@every_vocabulary
def test_each_token_that_a_model_can_say_decodes(vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    spoken = b"".join(tokenizer._bytes([token]) for token in range(vocabulary))
    assert len(spoken) > 200_000
    assert set(spoken) == set(range(256))


# --- words -------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(data=st.data(), vocabulary=st.sampled_from(ALL))
def test_words_partition_the_tokens_and_their_texts_join(data: st.DataObject, vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    single_bytes = st.integers(0, 255)  # the first tokens: halves of characters, and bytes of none
    token = st.one_of(single_bytes, st.integers(0, vocabulary - 1), st.just(50_256))
    tokens = data.draw(st.lists(token, max_size=30))
    words = tokenizer.split_words(tokens)
    plain = [token for token in tokens if token < tokenizer.end_of_text]
    assert [token for word in words for token in word.tokens] == plain
    assert "".join(word.text for word in words) == tokenizer.decode(tokens)
    assert all(word.tokens for word in words)


@settings(max_examples=200, deadline=None)
@given(text=anything, vocabulary=st.sampled_from(ALL))
def test_no_word_ends_inside_a_character(text: str, vocabulary: int) -> None:
    tokenizer = tokenizer_of(vocabulary)
    for word in tokenizer.split_words(tokenizer.encode(text)):
        assert tokenizer._bytes(word.tokens).decode("utf-8") == word.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" Hello, world!", [" Hello,", " world!"]),
        ("Hello antidisestablishmentarianism", ["Hello", " antidisestablishmentarianism"]),
        (" It's 3.5 o'clock", [" It's", " 3.5", " o'clock"]),
        (" über Straße", [" über", " Straße"]),
        ("𓀀𓀁", ["𓀀𓀁"]),
    ],
)
def test_words_begin_at_spaces(text: str, words: list[str]) -> None:
    for vocabulary in ALL:
        tokenizer = tokenizer_of(vocabulary)
        found = [word.text for word in tokenizer.split_words(tokenizer.encode(text))]
        assert found == words


def test_scripts_without_spaces_are_cut_at_characters() -> None:
    tokenizer = tokenizer_of(MULTILINGUAL)
    words = [word.text for word in tokenizer.split_words(tokenizer.encode("今日は良い天気です。"))]
    assert len(words) > 3
    assert words[-1].endswith("。")  # punctuation stays with the word before it
    assert "".join(words) == "今日は良い天気です。"


def test_bytes_that_are_no_text_spoil_only_their_own_word() -> None:
    tokenizer = tokenizer_of(ENGLISH)
    stray = next(token for token in range(256) if tokenizer._bytes([token]) == b"\xff")
    words = tokenizer.split_words([*tokenizer.encode(" one"), stray, *tokenizer.encode(" two three")])
    assert [word.text for word in words] == [" one\ufffd", " two", " three"]


# --- a model's own files -----------------------------------------------------------------------------


def _hub_files(folder: Path, vocabulary: int, *, one_file: bool) -> Path:
    """Vocabulary files of the published vocabulary."""
    return files.write_vocabulary(folder, tokenizer_of(vocabulary), one_file=one_file)


def _own(folder: Path, vocabulary: int, generation: dict[str, Any] | None = None) -> WhisperTokenizer:
    return WhisperTokenizer.from_hugging_face(folder, config_of(vocabulary), generation)


def _add(folder: Path, **added: int) -> None:
    """Tokens that fine-tuning adds, in whichever file holds such."""
    if (folder / "added_tokens.json").exists():
        content = json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))
        (folder / "added_tokens.json").write_text(json.dumps(content | added), encoding="utf-8")
        return
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] += [{"id": i, "content": name} for name, i in added.items()]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


either_file = pytest.mark.parametrize("one_file", [True, False], ids=["tokenizer.json", "vocab.json"])


@every_vocabulary
@either_file
def test_a_models_own_vocabulary_agrees_with_the_published_one(
    tmp_path: Path, vocabulary: int, one_file: bool
) -> None:
    folder = _hub_files(tmp_path / "m", vocabulary, one_file=one_file)
    own = WhisperTokenizer.from_hugging_face(folder, config_of(vocabulary))
    published = tokenizer_of(vocabulary)
    for name, token in published.specials.items():
        assert own.specials[name] == token
    text = " Grüße, 今日 <|en|> don't 12345 ♪♪ …"
    assert own.encode(text) == published.encode(text)
    everything = range(vocabulary)
    assert [own._bytes([t]) for t in everything] == [published._bytes([t]) for t in everything]
    assert own.languages == published.languages
    assert own.multilingual == published.multilingual == (vocabulary != ENGLISH)
    assert own.timestamps == published.timestamps


@pytest.mark.parametrize(
    ("generation", "multilingual"),
    [
        ({"is_multilingual": False}, False),
        ({"is_multilingual": True}, True),
        ({"is_multilingual": None}, True),
    ],
)
def test_a_model_says_itself_whether_it_is_multilingual(
    tmp_path: Path, generation: dict[str, Any], multilingual: bool
) -> None:
    folder = _hub_files(tmp_path / "m", MULTILINGUAL, one_file=True)
    own = _own(folder, MULTILINGUAL, generation)
    assert own.multilingual == multilingual
    tokens, _ = own.prompt(PromptSpec(task="translate"), language="de")
    assert tokens == ([50_258, 50_261, 50_358, 50_363] if multilingual else [50_258, 50_363])


def test_an_english_model_with_added_tokens_stays_english(tmp_path: Path) -> None:
    """Its vocabulary then has as many tokens as a multilingual one."""
    folder = _hub_files(tmp_path / "m", ENGLISH, one_file=False)
    _add(folder, **{"<|speaker|>": 51_864, "<|other|>": 51_865})
    own = _own(folder, ENGLISH + 2)
    assert not own.multilingual
    assert own.prompt(PromptSpec(), language="en") == ([50_257, 50_362], 0)
    assert own.timestamps == tokenizer_of(ENGLISH).timestamps


@either_file
def test_words_that_fine_tuning_added_are_text(tmp_path: Path, one_file: bool) -> None:
    folder = _hub_files(tmp_path / "m", MULTILINGUAL, one_file=one_file)
    _add(
        folder,
        **{"Krankenwagen": 51_865, " größer": 51_866, "<|turn|>": 51_867, "[PAD]": 51_868, "<pad>": 51_869},
    )
    own = _own(folder, MULTILINGUAL + 5)
    said = [
        *own.encode(" Der"),
        51_866,
        51_865,
        51_867,
        *own.encode(" da"),
        51_868,
        51_869,
        50_364,
        own.end_of_text,
    ]
    assert own.decode(said) == " Der größerKrankenwagen da"
    assert [word.text for word in own.split_words(said)] == [" Der", " größerKrankenwagen", " da"]
    assert [token for word in own.split_words(said) for token in word.tokens] == [
        token for token in said if own.is_text(token)
    ]
    plain = _own(_hub_files(tmp_path / "n", MULTILINGUAL, one_file=one_file), MULTILINGUAL)
    for text in (" Der", " 今日 don't"):
        assert own.encode(text) == plain.encode(text)


def test_a_language_that_fine_tuning_added(tmp_path: Path) -> None:
    folder = _hub_files(tmp_path / "m", MULTILINGUAL, one_file=False)
    _add(folder, **{"<|gsw|>": 51_865, "<|yue|>": 51_866})
    own = _own(folder, MULTILINGUAL + 2, {"lang_to_id": {"<|en|>": 50_259, "<|gsw|>": 51_865, "odd": 3}})
    assert own.languages[-2:] == ("yue", "gsw")
    assert own.prompt(PromptSpec(), language="gsw")[0] == [50_258, 51_865, 50_359, 50_363]
    assert own.language_of(51_866) == "yue"


@every_vocabulary
def test_the_older_name_of_no_speech(tmp_path: Path, vocabulary: int) -> None:
    folder = _hub_files(tmp_path / "m", vocabulary, one_file=False)
    content = json.loads((folder / "added_tokens.json").read_text(encoding="utf-8"))
    content["<|nocaptions|>"] = content.pop("<|nospeech|>")
    (folder / "added_tokens.json").write_text(json.dumps(content), encoding="utf-8")
    assert _own(folder, vocabulary).no_speech == tokenizer_of(vocabulary).no_speech


def test_a_vocabulary_without_its_added_tokens_leaves_them_to_the_other_file(tmp_path: Path) -> None:
    folder = _hub_files(tmp_path / "m", LARGE_V3, one_file=False)
    _hub_files(folder, LARGE_V3, one_file=True)
    (folder / "added_tokens.json").unlink()
    assert _own(folder, LARGE_V3).start_of_transcript == 50_258
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="startoftranscript"):
        _own(folder, LARGE_V3)


@pytest.mark.parametrize("timestamps", [False, True])
def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path, timestamps: bool) -> None:
    """One token more or less moves all behind the languages, and prompts would say something else."""
    newer, older = _hub_files(tmp_path / "v3", LARGE_V3, one_file=False), tmp_path / "v2"
    _hub_files(older, MULTILINGUAL, one_file=False)
    if timestamps:  # as newer files list them
        _add(newer, **{f"<|{i / 50:.2f}|>": 50_365 + i for i in range(1501)})
        _add(older, **{f"<|{i / 50:.2f}|>": 50_364 + i for i in range(1501)})
    settings = {
        MULTILINGUAL: {"no_timestamps_token_id": 50_363},
        LARGE_V3: {"no_timestamps_token_id": 50_364},
    }
    assert _own(newer, LARGE_V3, settings[LARGE_V3]).no_timestamps == 50_364
    assert _own(older, MULTILINGUAL, settings[MULTILINGUAL]).no_timestamps == 50_363
    for folder, vocabulary in ((newer, MULTILINGUAL), (older, LARGE_V3)):
        with pytest.raises(ModelError, match="another model's") as caught:
            _own(folder, vocabulary, settings[vocabulary])
        assert str(folder) in caught.value.message
        assert caught.value.advice
    if timestamps:
        with pytest.raises(ModelError, match="another model's"):
            _own(newer, MULTILINGUAL)
    assert _own(older, MULTILINGUAL, settings[LARGE_V3]).no_timestamps == 50_363  # the weights decide


def test_the_bundled_model_brings_the_published_english_vocabulary() -> None:
    own = WhisperTokenizer.from_hugging_face(BUNDLED / "demo-en", config_of(ENGLISH))
    assert own.specials == tokenizer_of(ENGLISH).specials


def test_end_of_text_is_found_where_only_the_other_specials_are_listed(tmp_path: Path) -> None:
    folder = _hub_files(tmp_path / "m", MULTILINGUAL, one_file=False)
    plain = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    del plain["<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps(plain), encoding="utf-8")
    assert WhisperTokenizer.from_hugging_face(folder, config_of(MULTILINGUAL)).end_of_text == 50_257


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("none", ""),
        ("vocab.json", "{"),
        ("vocab.json", "[]"),
        ("vocab.json", "{}"),
        ("vocab.json", '{"a": 0}'),
        ("vocab.json", '{"a": "b"}'),
        ("vocab.json", '{"a": 0, "b": 0}'),
        ("vocab.json", '{"日": 0}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": 1}'),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}'),
        ("tokenizer.json", '{"model": {"vocab": []}, "added_tokens": 7}'),
    ],
)
def test_a_spoilt_vocabulary_is_refused_by_name(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        WhisperTokenizer.from_hugging_face(tmp_path, config_of(ENGLISH))
    assert str(tmp_path) in caught.value.message
    assert caught.value.advice
    assert caught.value.exit_code == 78


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = _hub_files(tmp_path / "m", MULTILINGUAL, one_file=False)
    with pytest.raises(ModelError, match="lacks the token"):
        WhisperTokenizer.from_hugging_face(folder, config_of(50_300))


# --- the reference's own tokenizer -------------------------------------------------------------------


@every_vocabulary
def test_openai_whispers_tokenizer_agrees(vocabulary: int) -> None:
    reference = pytest.importorskip("whisper.tokenizer", reason="the extra 'parity' is not installed")
    languages = 100 if vocabulary == LARGE_V3 else 99
    theirs = reference.get_tokenizer(vocabulary != ENGLISH, num_languages=languages)
    ours = tokenizer_of(vocabulary)
    assert tuple(reference.LANGUAGES) == LANGUAGE_CODES
    known = {name: token for name, token in theirs.special_tokens.items() if token < theirs.timestamp_begin}
    assert {name: token for name, token in ours.specials.items() if token < theirs.timestamp_begin} == known
    for text in (" Hello, world!", "Größe 今日は  \n\n 1234567 don't ♪♪", " " * 9, "ไทย မြန်မာ 👩🏽‍🚒"):
        assert ours.encode(text) == theirs.encode(text)
    for token in range(ours.end_of_text):
        assert ours._bytes([token]) == theirs.encoding.decode_bytes([token])
    sentence = ours.encode(" It's a good, long day")
    assert [word.text for word in ours.split_words(sentence)] == [" It's", " a", " good,", " long", " day"]


@cache
def _reference_model(vocabulary: int) -> Any:
    """openai-whisper's smallest possible model with this vocabulary; its weights do not matter here."""
    reference = pytest.importorskip("whisper.model", reason="the extra 'parity' is not installed")
    return reference.Whisper(reference.ModelDimensions(80, 1500, 64, 1, 1, vocabulary, 448, 64, 1, 1))


@every_vocabulary
@pytest.mark.parametrize("task", ["transcribe", "translate"])
@pytest.mark.parametrize("language", ["en", "de", "su"])
@pytest.mark.parametrize(
    ("hints", "prefix"),
    [
        ("", ""),
        ("Ada Lovelace, 今日", ""),
        ("", "Good morning"),
        ("Ada Lovelace", "Guten"),
        ("name " * 400, "x"),
    ],
)
def test_prompts_are_those_of_openai_whisper(
    vocabulary: int, task: str, language: str, hints: str, prefix: str
) -> None:
    decoding = pytest.importorskip("whisper.decoding", reason="the extra 'parity' is not installed")
    ours, english = tokenizer_of(vocabulary), vocabulary == ENGLISH
    options = decoding.DecodingOptions(
        task=task,
        language="en" if english else language,
        prompt=hints or None,
        prefix=prefix or None,
        without_timestamps=True,
        fp16=False,
    )
    theirs = decoding.DecodingTask(_reference_model(vocabulary), options)
    spec = PromptSpec(language, tuple(ours.encode(" " + prefix)) if prefix else (), hints)
    tokens, start = ours.prompt(spec._replace(task=task), language=language)
    assert tuple(tokens) == theirs.initial_tokens
    assert start == theirs.sot_index
    assert ours.timestamps[0] == theirs.tokenizer.timestamp_begin
    assert ours.no_speech == theirs.tokenizer.no_speech
    if not english:
        theirs_by_code = dict(
            zip(theirs.tokenizer.all_language_codes, theirs.tokenizer.all_language_tokens, strict=True)
        )
        assert {code: ours.language_token(code) for code in ours.languages} == theirs_by_code
