//! Options as text: what is accepted says the same when it is printed and read again, in Rust and in C; what is refused
//! changes nothing, and the sentence names the option.
#![no_main]

#[path = "../tally.rs"]
mod tally;

use std::ffi::{CStr, CString};
use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;

use vuser::capi::config::{vuser_config, vuser_config_init, vuser_config_parse};
use vuser::capi::error::vuser_last_error;
use vuser::dev::Config;
use vuser::dev::config::{EventMode, Mode, Offloads, SPEED_UNKNOWN};
use vuser::mem::lanes::Simd;

/// All that is known by its name.
fn name_of<T: PartialEq>(value: &T, names: &[(&'static str, T)]) -> &'static str {
    names.iter().find(|(_, v)| v == value).expect("each value has a name").0
}

/// A configuration as text, all of it.
fn print(c: &Config) -> String {
    let mut text = format!("events={}", if c.events == EventMode::Manual { "manual" } else { "thread" });
    let mut put = |name: &str, value: &dyn std::fmt::Display| write!(text, ",{name}={value}").expect("it is a string");
    let switches = [
        ("cq", c.cq),
        ("server", c.server),
        ("mrg_rxbuf", c.mrg_rxbuf),
        ("in_order", c.in_order),
        ("packed_vq", c.packed_vq),
        ("vectorized", c.vectorized),
        ("event_idx", c.event_idx),
        ("indirect", c.indirect),
        ("huge", c.huge),
        ("stats", c.stats),
        ("compact", c.compact),
        ("reconnect", c.reconnect),
        ("resend", c.resend),
        ("persist", c.persist),
    ];
    switches.iter().for_each(|(name, on)| put(name, &u8::from(*on)));
    Offloads::all().iter_names().for_each(|(name, o)| put(&name.to_lowercase(), &u8::from(c.offloads.contains(o))));
    put("queues", &c.queues);
    put("queue_size", &c.queue_size);
    put("timeout_ms", &c.timeout_ms);
    put("server_wait_ms", &c.server_wait_ms);
    put("reconnect_ms", &c.reconnect_ms);
    put("busyloop_us", &c.busyloop_us);
    put("simd", &name_of(&c.simd, &Simd::NAMES));
    match c.speed {
        SPEED_UNKNOWN => put("speed", &"unknown"),
        speed => put("speed", &speed),
    }
    // What there is no text for is left out: it is the default.
    let path = c.path.to_str().expect("it came as text");
    [("path", path), ("iface", &c.iface)].iter().filter(|(_, v)| !v.is_empty()).for_each(|(n, v)| put(n, v));
    c.mac.iter().for_each(|m| put("mac", &m.map(|b| format!("{b:02x}")).join(":")));
    c.mode.iter().for_each(|m| put("mode", &name_of(m, &Mode::NAMES)));
    c.socket_mode.iter().for_each(|m| put("socket_mode", &format_args!("{m:04o}")));
    Some(c.mtu).filter(|m| *m != 0).iter().for_each(|m| put("mtu", m));
    text
}

fn parsed(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    match config.parse(text) {
        Ok(()) => Ok(config),
        Err(e) => {
            assert_eq!(config, Config::default(), "{text:?}: what is refused changes nothing");
            Err(e.to_string())
        }
    }
}

/// The same in C; its fields as text.
fn parsed_in_c(text: &CStr) -> Result<String, String> {
    // SAFETY: integers and arrays of them.
    let mut config: vuser_config = unsafe { std::mem::zeroed() };
    // SAFETY: a struct, its size, and text with a zero at its end.
    let errno = unsafe {
        assert_eq!(vuser_config_init(&raw mut config, size_of::<vuser_config>()), 0);
        vuser_config_parse(&raw mut config, text.as_ptr())
    };
    match errno {
        0 => Ok(format!("{config:?}")),
        _ => {
            // SAFETY: text, which is there until the next call.
            let sentence = unsafe { CStr::from_ptr(vuser_last_error()) }.to_str().expect("it is text");
            Err(sentence.strip_prefix("vuser_config_parse: ").expect("it names the call").to_owned())
        }
    }
}

/// The sentence that refuses the text is about the first option that can't be, and names it.
fn names_the_option(text: &str, sentence: &str) {
    let ends = text.match_indices(',').map(|(at, _)| at).chain([text.len()]);
    let bad = ends.map(|end| &text[..end]).find(|t| parsed(t).is_err()).expect("all of it is refused");
    let item = if text.starts_with(',') { "" } else { bad.rsplit(',').next().expect("there is a last") };
    let name = if item.is_empty() { "\"\"" } else { item.split('=').next().expect("there is a first") };
    assert!(sentence.contains(name), "{text:?}: {sentence}");
}

fn accepted(text: &str, config: &Config) {
    let printed = print(config);
    let mut again = Config::default();
    again.parse(&printed).unwrap_or_else(|e| panic!("{text:?} is printed as {printed:?}: {e}"));
    assert_eq!(again, *config, "{text:?} is printed as {printed:?}");
    again.parse(text).unwrap_or_else(|e| panic!("{text:?}: {e} the second time"));
    assert_eq!(again, *config, "{text:?} said twice");
    let backwards: Vec<_> = text.rsplit(',').collect();
    assert_eq!(parsed(&backwards.join(",")).as_ref(), Ok(config), "{text:?} backwards");
    if let Err(e) = config.validate() {
        let sentence = e.to_string();
        let known = printed.split(',').filter_map(|i| i.split('=').next()).chain(["path"]);
        assert!(known.into_iter().any(|name| sentence.contains(name)), "{text:?}: {sentence}");
    }
}

fuzz_target!(init: tally::at_exit(tally::counted), |bytes: &[u8]| {
    let c_text = CString::new(bytes.split(|b| *b == 0).next().unwrap_or_default()).expect("it was cut at zero");
    let Ok(text) = c_text.to_str() else {
        let sentence = parsed_in_c(&c_text).expect_err("it is not UTF-8");
        assert!(sentence.contains("devargs"), "{sentence}");
        return;
    };
    tally::count(text.split(',').count() as u64);
    let in_c = parsed_in_c(&c_text);
    match parsed(text) {
        Ok(config) => {
            accepted(text, &config);
            match in_c {
                Ok(fields) => {
                    let printed = CString::new(print(&config)).expect("it has no zero");
                    assert_eq!(Ok(fields), parsed_in_c(&printed), "{text:?}");
                }
                // There is an end to the room in C.
                Err(sentence) => assert!(sentence.starts_with("path has ") && config.path.as_os_str().len() > 255, "{sentence}"),
            }
        }
        Err(sentence) => {
            assert_eq!(in_c.as_ref(), Err(&sentence), "{text:?}");
            names_the_option(text, &sentence);
        }
    }
});
