use rstest::rstest;
use serde_json::json;

use super::*;

const SECRET: &str = "s3cr3t/p@ss wörd";

fn credentials() -> Map<String, Value> {
    let value = json!({
        "username": "exporter",
        "password": SECRET,
        "hostname": "db.example.com",
        "port": 5432,
        "user-name": "dashed",
        "tls": true,
        "nothing": null,
        "hosts": ["a", "b"],
        "uris": {"rest": "https://x/<y>&'z'"},
        "big": 1e30,
        "short": "b",
    });
    value.as_object().unwrap().clone()
}

fn one(source: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("it".to_owned(), source.to_owned())])
}

fn rendered(source: &str) -> Result<String, RenderError> {
    let entries = render(&one(source), &credentials())?;
    Ok(String::from_utf8(entries.expose("it").unwrap().to_vec()).unwrap())
}

#[rstest]
#[case::plain("no variables", "no variables")]
#[case::dsn(
    "postgresql://{{ username }}:{{ password | urlencode }}@{{ hostname }}:{{ port }}/app",
    "postgresql://exporter:s3cr3t%2Fp%40ss%20w%C3%B6rd@db.example.com:5432/app"
)]
#[case::dashed(r#"{{ credentials["user-name"] }}"#, "dashed")]
#[case::nested("{{ uris.rest }}", "https://x/<y>&'z'")]
#[case::json("{{ uris | tojson }}", r#"{"rest":"https://x/<y>&'z'"}"#)]
#[case::json_string("{{ username | tojson }}", r#""exporter""#)]
#[case::base64("{{ username | b64encode }}", "ZXhwb3J0ZXI=")]
#[case::base64_number("{{ port | b64encode }}", "NTQzMg==")]
#[case::upper("{{ username | upper }}", "EXPORTER")]
#[case::lower("{{ 'AB' | lower }}", "ab")]
#[case::default("{{ absent | default('x') }}", "x")]
#[case::null_is_absent("{{ nothing | default('x') }}", "x")]
#[case::defined("{% if tls is defined and tls %}require{% endif %}", "require")]
#[case::list("{% for h in hosts %}{{ h }};{% endfor %}", "a;b;")]
#[case::boolean("{{ tls }}", "true")]
#[case::list_as_json("{{ hosts }} {{ uris }}", r#"["a","b"] {"rest":"https://x/<y>&'z'"}"#)]
#[case::encoded_boolean("{{ tls | urlencode }}", "true")]
#[case::trailing_newline("a\n{{ port }}\n", "a\n5432\n")]
#[case::unused_big_number("{{ credentials | length }}", "10")]
fn a_template_renders(#[case] source: &str, #[case] expected: &str) {
    validate(&one(source)).unwrap();
    assert_eq!(rendered(source).unwrap(), expected);
}

#[test]
fn nothing_is_escaped_whatever_the_entry_is_called() {
    for entry in ["config.json", "page.html", "x.yaml"] {
        let templates = BTreeMap::from([(entry.to_owned(), "{{ uris.rest }}".to_owned())]);
        let entries = render(&templates, &credentials()).unwrap();
        assert_eq!(entries.expose(entry).unwrap(), b"https://x/<y>&'z'");
    }
}

#[rstest]
#[case::variable("a\n{{ usernme }}", "uses `usernme` on line 2")]
#[case::filtered("{{ passwrd | urlencode }}", "uses `passwrd`")]
#[case::json("{{ passwrd | tojson }}", "uses `passwrd`")]
#[case::base64("{{ passwrd | b64encode }}", "uses `passwrd`")]
#[case::builtin_filter("{{ passwrd | upper }}", "uses `passwrd`")]
#[case::condition("{% if passwrd %}x{% endif %}", "uses `passwrd`")]
#[case::below_all("{{ credentials.passwrd }}", "uses `passwrd`")]
#[case::by_index(r#"{{ credentials["pass-wrd"] }}"#, "uses ")]
#[case::member("{{ uris.rset }}", "uses ")]
#[case::null("{{ nothing }}", "uses `nothing`")]
fn what_is_undefined_is_named(#[case] source: &str, #[case] expected: &str) {
    let message = rendered(source).unwrap_err().to_string();
    assert!(message.starts_with("the template of entry `it` uses "), "{message}");
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("(`big`, `hostname`, `hosts`, `password`, `port`, "), "{message}");
    assert!(!message.contains(SECRET), "{message}");
}

#[rstest]
#[case::list("{% set x = [username, username] %}", "`,`")]
#[case::list_of_one_twice("{% set x = [1] %}\n{{ x * 9000 }}", "`*`")]
#[case::map("{% set x = {'a': 1, 'b': 1} %}", "`,`")]
#[case::tuple("{% set x = username, username %}", "`,`")]
#[case::grouped_tuple("{% set x = (username, username) %}", "`,`")]
#[case::tuple_after_keyword("{% for x in (username, username) %}{% endfor %}", "`,`")]
#[case::list_in_call("{{ username | default([1, 1]) }}", "`,`")]
#[case::tuple_in_call("{{ username | default((1, 1)) }}", "`,`")]
#[case::sum("{% set x = hosts + hosts %}", "`+`")]
#[case::splat("{{ username | join(**credentials) }}", "`**`")]
#[case::after_a_comment("{# {{ ' #}{% set x = [1, 1] %}", "`,`")]
#[case::after_raw("{% raw %}{{ ' {% endraw %}{% set x = [1, 1] %}", "`,`")]
#[case::function("{{ range(5) }}", "")]
fn what_makes_lists_is_refused(#[case] source: &str, #[case] expected: &str) {
    let error = rendered(source).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    if !expected.is_empty() {
        assert_eq!(validate(&one(source)).unwrap_err().to_string(), error);
    }
}

#[rstest]
#[case::text_around("[1, 2] + {\"a\": 1, \"b\": 2} * 3", "[1, 2] + {\"a\": 1, \"b\": 2} * 3")]
#[case::arguments("{{ username | replace('e', ',+*') }}", ",+*xport,+*r")]
#[case::comment("a{# [1, 2] + #}b", "ab")]
#[case::raw("{% raw %}{{ [1, 2] }}{% endraw %}", "{{ [1, 2] }}")]
#[case::join("{{ hosts | join(',') }}", "a,b")]
#[case::index("{{ hosts[1] }}", "b")]
#[case::json(
    "{\"user\": {{ username | tojson }}, \"port\": {{ port }}}",
    "{\"user\": \"exporter\", \"port\": 5432}"
)]
#[case::loop_last("{% for h in hosts %}{{ h }}{% if not loop.last %};{% endif %}{% endfor %}", "a;b")]
fn what_makes_text_is_admitted(#[case] source: &str, #[case] expected: &str) {
    validate(&one(source)).unwrap();
    assert_eq!(rendered(source).unwrap(), expected);
}

#[rstest]
#[case::unclosed("{{ password", "syntax error")]
#[case::unknown_tag("{% frobnicate %}", "syntax error")]
#[case::unknown_filter("{{ password | urlencod }}", "filter urlencod is unknown")]
#[case::unknown_filter_in_loop("{% for h in hosts %}{{ h | urlencod }}{% endfor %}", "urlencod")]
#[case::unknown_test("{{ password is pretty }}", "test pretty is unknown")]
fn mistakes_show_without_credentials(#[case] source: &str, #[case] expected: &str) {
    let error = validate(&one(source)).unwrap_err();
    assert!(matches!(&error, RenderError::Template { line: 1, .. }), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[rstest]
#[case::kwarg("{{ username | join(**{password: 1}) }}")]
#[case::filter_name("{{ [1] | map(password) | list }}")]
#[case::test_name("{{ [1] | select(password) | list }}")]
#[case::arithmetic("{{ password - 1 }}")]
#[case::number("{{ password | int }}")]
#[case::float("{{ password | float }}")]
#[case::indent("{{ uris | tojson(password) }}")]
#[case::called("{{ password() }}")]
#[case::method("{{ password.nope() }}")]
#[case::unpacked("{% for a, b in [password] %}x{% endfor %}")]
#[case::format("{{ password | format(1) }}")]
#[case::range("{{ range(password) }}")]
#[case::dict("{{ dict(1, password) }}")]
#[case::missing_index("{{ uris[password] }}")]
#[case::slice("{{ hosts[password:] }}")]
#[case::urlencode_map("{{ uris | urlencode(password) }}")]
fn a_failure_never_shows_a_value(#[case] source: &str) {
    if let Err(error) = rendered(source) {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("p@ss"), "{shown}");
    }
}

#[test]
fn a_failure_says_what_is_wrong() {
    assert_eq!(
        rendered("\n{{ hosts | urlencode }}").unwrap_err().to_string(),
        "the template of entry `it` fails on line 2: invalid operation: \
         the filter takes a string, number or boolean, not a sequence; put `tojson` before it"
    );
}

#[rstest]
#[case::plain("{{ big }}")]
#[case::filtered("{{ big | urlencode }}")]
#[case::json("{{ credentials | tojson }}")]
fn a_number_that_lost_digits_is_an_error(#[case] source: &str) {
    let message = rendered(source).unwrap_err().to_string();
    assert!(message.contains("beyond 64 bits"), "{message}");
}

#[rstest]
#[case::endless_work(&format!("{}x{}", "{% for a in password %}".repeat(8), "{% endfor %}".repeat(8)))]
#[case::endless_text(&format!("{{% set x = password %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60)))]
#[case::replaced(
    "{{ password | replace('', password) | replace('', password) | replace('', password) \
    | replace('', password) | replace('', password) }}"
)]
fn work_and_output_are_limited(#[case] source: &str) {
    validate(&one(source)).unwrap();
    rendered(source).unwrap_err();
}

#[rstest]
#[case::sum("{{ 1", "+1", " }}")]
#[case::text("{{ 1", "~1", " }}")]
#[case::filters("{{ [1]", "|d", " }}")]
#[case::attributes("{{ uris", ".a", " }}")]
#[case::calls("{{ hosts", "()", " }}")]
#[case::negations("{{ ", "-", "1 }}")]
#[case::nots("{{ ", "not ", "1 }}")]
#[case::powers("{{ 1", "**1", " }}")]
#[case::brackets("{{ ", "[", "1")]
#[case::parentheses("{{ ", "(", "1")]
#[case::choices("{{ 1", " if 1 else 1", " }}")]
#[case::elifs("{% if 0 %}", "{% elif 0 %}", "{% endif %}")]
#[case::open_ifs("", "{% if 1 %}", "")]
#[case::open_loops("", "{% for a in [1] %}", "")]
#[case::lists("{% set x = [] %}", "{%set x=[x]%}", "{{ x }}")]
#[case::lists_as_json("{% set x = [] %}", "{%set x=[x]%}", "{{ x | tojson }}")]
#[case::many_lists(
    "{% set x = [] %}",
    "{%set x=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]%}",
    "{{ x }}"
)]
#[case::maps("{% set x = 1 %}", "{%set x={1:x}%}", "{{ x }}")]
fn nothing_nests_deep_enough_to_end_the_process(
    #[case] start: &str,
    #[case] middle: &str,
    #[case] end: &str,
) {
    let repeats = (MAX_SOURCE - start.len() - end.len()) / middle.len();
    for repeats in [repeats, repeats / 2, repeats / 8] {
        let source = format!("{start}{}{end}", middle.repeat(repeats));
        let _ = validate(&one(&source));
        let _ = render(&one(&source), &credentials());
    }
}

#[rstest]
#[case::text("{{ x", "~1", " }}", "an expression has more than 256 words and signs; split it")]
#[case::folded("{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "~'a'", "~x }}", "split it")]
#[case::numbers("{{ 1", "//1", " }}", "split it")]
#[case::comparisons("{{ 1", "==1", " }}", "split it")]
#[case::conditions("{% if 1", " and 1", " %}{% endif %}", "split it")]
#[case::choices("{{ 1", " if x else 1", " }}", "split it")]
#[case::filters("{{ x", "|d", " }}", "split it")]
#[case::parentheses("{{ ", "(", "1", "nested more than 32 deep")]
#[case::brackets("{{ ", "[", "1", "nested more than 32 deep")]
#[case::braces("{{ ", "{1:", "1", "nested more than 32 deep")]
#[case::many_expressions("", "{{x}}", "", "the template has more than 4096 words and signs; shorten it")]
#[case::many_blocks("", "{%if x%}{%endif%}", "", "the template has more than 4096 words and signs")]
fn what_is_slow_to_compile_is_refused_before(
    #[case] start: &str,
    #[case] middle: &str,
    #[case] end: &str,
    #[case] expected: &str,
) {
    let repeats = (MAX_SOURCE - start.len() - end.len()) / middle.len();
    let source = format!("{start}{}{end}", middle.repeat(repeats));
    let syntax = engine::environment(0).syntax().clone();
    let refusal = grammar::check(&source, &syntax).unwrap().expect_err("it is refused");
    assert!(refusal.problem.contains(expected), "{}", refusal.problem);
    let error = validate(&one(&source)).unwrap_err();
    assert_eq!(render(&one(&source), &credentials()).unwrap_err(), error);
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn what_people_write_is_far_from_the_limits() {
    let variables: Vec<_> = (0..64).map(|_| "username | default('x') | urlencode".to_owned()).collect();
    let long = format!("{{{{ {} }}}}", variables[..16].join(" ~ "));
    let properties: String =
        variables.iter().map(|each| format!("some.property = {{{{ {each} }}}}\n")).collect();
    for source in [long, properties] {
        validate(&one(&source)).unwrap();
        rendered(&source).unwrap();
    }
}

#[test]
fn the_number_of_templates_is_limited() {
    let templates = |count: usize| (0..count).map(|number| (number.to_string(), "x".to_owned())).collect();
    assert!(validate(&templates(MAX_ENTRIES)).is_ok());
    let error = RenderError::TooManyTemplates { count: MAX_ENTRIES + 1 };
    assert_eq!(validate(&templates(MAX_ENTRIES + 1)), Err(error.clone()));
    assert_eq!(render(&templates(MAX_ENTRIES + 1), &credentials()), Err(error));
}

#[test]
fn the_length_of_all_templates_is_limited() {
    let longest = "x".repeat(MAX_SOURCE);
    let templates = |count: usize| (0..count).map(|number| (number.to_string(), longest.clone())).collect();
    let count = MAX_TOTAL / MAX_SOURCE;
    assert!(validate(&templates(count)).is_ok());
    let error = RenderError::TemplatesTooLong { length: (count + 1) * MAX_SOURCE };
    assert_eq!(validate(&templates(count + 1)), Err(error.clone()));
    assert_eq!(render(&templates(count + 1), &credentials()), Err(error));
}

/// Each template uses more than half of the fuel.
#[test]
fn all_templates_together_have_so_much_fuel() {
    let source = format!("{}x{}", "{% for a in password %}".repeat(3), "{% endfor %}".repeat(3));
    let templates = |count: usize| (0..count).map(|number| (number.to_string(), source.clone())).collect();
    let credentials = Map::from_iter([("password".to_owned(), Value::from("x".repeat(34)))]);
    assert!(render(&templates(1), &credentials).is_ok());
    let message = render(&templates(2), &credentials).unwrap_err().to_string();
    assert!(message.contains("too much work"), "{message}");
}

#[rstest]
#[case::same("{{ a == b }}", "true")]
#[case::other("{{ a == c }}", "false")]
#[case::another_order_of_members("{{ m == n }}", "true")]
#[case::other_members("{{ m == o }}", "false")]
#[case::member("{{ a in all }} {{ c in all }}", "true false")]
#[case::text_is_no_number("{{ texts == numbers }}", "false")]
#[case::made_here("{{ [1] == one }}", "true")]
#[case::whole("{{ credentials == credentials }}", "true")]
#[case::as_text(
    "{{ m }} {{ m | tojson }} {{ m.y[0] }} {{ m | length }}",
    r#"{"x":1,"y":[2]} {"x":1,"y":[2]} 2 2"#
)]
#[case::members("{% for name in m %}{{ name }}{% endfor %}", "xy")]
#[case::last("{{ a | last }} {{ a | first }} {{ a[-1] }} {{ a | join(',') }}", "[2] 1 [2] 1,[2]")]
fn lists_and_maps_are_what_they_hold(#[case] source: &str, #[case] expected: &str) {
    let credentials = json!({
        "a": [1, [2]], "b": [1, [2]], "c": [1, [3]], "all": [[1, [2]]], "one": [1], "numbers": [1], "texts": ["1"],
        "m": {"x": 1, "y": [2]}, "n": {"y": [2], "x": 1}, "o": {"x": 1, "y": [3]},
    });
    let entries = render(&one(source), credentials.as_object().unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(entries.expose("it").unwrap()), expected);
}

#[test]
fn a_template_beyond_16_kib_is_refused() {
    assert!(validate(&one(&"x".repeat(MAX_SOURCE))).is_ok());
    let error = validate(&one(&"x".repeat(MAX_SOURCE + 1))).unwrap_err();
    assert_eq!(error, RenderError::TemplateTooLong { entry: "it".into(), length: MAX_SOURCE + 1 });
}

#[test]
fn all_entries_together_are_limited() {
    let half = "x".repeat(MAX_SIZE / 2);
    let credentials = Map::from_iter([("half".to_owned(), Value::from(half))]);
    let templates = |count: usize| (0..count).map(|n| (n.to_string(), "{{ half }}".to_owned())).collect();
    assert!(render(&templates(2), &credentials).is_ok());
    assert!(matches!(render(&templates(3), &credentials), Err(RenderError::TooLarge { .. })));
}

#[rstest]
#[case::path("../x")]
#[case::empty("")]
#[case::space("a b")]
fn a_bad_entry_name_is_refused(#[case] entry: &str) {
    let templates = BTreeMap::from([(entry.to_owned(), "x".to_owned())]);
    let expected = RenderError::InvalidEntry { entry: entry.to_owned() };
    assert_eq!(validate(&templates), Err(expected.clone()));
    assert_eq!(render(&templates, &credentials()), Err(expected));
}
