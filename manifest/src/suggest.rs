//! What a person may have meant.

use strsim::damerau_levenshtein;

/// Words of Compose and Kubernetes, and of older habits, for what has another name here.
/// Written as [`normal`] makes them.
const SYNONYMS: [(&str, &str); 53] = [
    ("activedeadlineseconds", "activeDeadline"),
    ("concurrencypolicy", "concurrency"),
    ("containerport", "container"),
    ("cpus", "cpu"),
    ("cron", "schedule"),
    ("emptydir", "scratch"),
    ("entrypoint", "command"),
    ("environment", "env"),
    ("failedjobshistorylimit", "history"),
    ("failureaction", "onFailure"),
    ("healthcheck", "probes"),
    ("hostport", "host"),
    ("httpget", "http"),
    ("initialdelayseconds", "delay"),
    ("instances", "replicas"),
    ("lifecycle", "preStop"),
    ("livenessprobe", "probes"),
    ("mem", "memory"),
    ("metadata", "name"),
    ("minreadyseconds", "minReady"),
    ("monitor", "minReady"),
    ("mountpath", "path"),
    ("no", "Never"),
    ("nodeselector", "require"),
    ("periodseconds", "interval"),
    ("progressdeadlineseconds", "progressDeadline"),
    ("published", "host"),
    ("pullpolicy", "imagePullPolicy"),
    ("ram", "memory"),
    ("readinessprobe", "probes"),
    ("requirements", "require"),
    ("restartpolicy", "restart"),
    ("runasuser", "user"),
    ("scale", "replicas"),
    ("service", "workload"),
    ("servicecompletedsuccessfully", "completed"),
    ("servicehealthy", "ready"),
    ("servicestarted", "started"),
    ("startingdeadlineseconds", "startingDeadline"),
    ("startupprobe", "probes"),
    ("succeeded", "completed"),
    ("successfuljobshistorylimit", "history"),
    ("target", "container"),
    ("tcpsocket", "tcp"),
    ("terminationgraceperiodseconds", "stopGracePeriod"),
    ("timeoutseconds", "timeout"),
    ("tolerations", "tolerate"),
    ("ttlsecondsafterfinished", "ttlAfterFinished"),
    ("unlessstopped", "Always"),
    ("updateconfig", "update"),
    ("updatestrategy", "update"),
    ("variables", "env"),
    ("volumemounts", "mounts"),
];
/// What the system writes beside `spec`: taken, but never what a person meant.
const SYSTEM_FIELDS: [&str; 2] = ["meta", "status"];
/// The most words that are listed.
const LISTED_MAX: usize = 8;

/// What to do about a word that is not known: the nearest one that is, or all of them.
pub(crate) fn help(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => list(known),
    }
}

/// The words that are known, if they are few.
pub(crate) fn list(known: &[&str]) -> String {
    let known: Vec<_> = offered(known).map(|k| format!("`{k}`")).collect();
    match known.as_slice() {
        [] => "remove it".to_owned(),
        [one] => format!("only {one} is known here"),
        many if many.len() <= LISTED_MAX => format!("known here: {}", many.join(", ")),
        _ => "`windlass schema` shows every field".to_owned(),
    }
}

fn offered<'a>(known: &[&'a str]) -> impl Iterator<Item = &'a str> {
    // Elsewhere than beside `spec`, a field of such a name is the user's.
    let of_system = SYSTEM_FIELDS.iter().all(|field| known.contains(field));
    let hidden = move |k: &&str| of_system && SYSTEM_FIELDS.contains(k);
    known.iter().copied().filter(move |k| !hidden(k))
}

/// The known word that comes so near that it was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = normal(word);
    let synonym = SYNONYMS.iter().find(|(s, _)| *s == word).map(|(_, k)| *k);
    // A third of the letters may be wrong, but never a whole short word.
    let tolerance = (word.len() / 3).max(1);
    offered(known)
        .find(|k| normal(k) == word)
        .or_else(|| offered(known).find(|k| Some(*k) == synonym))
        .or_else(|| {
            let distance = |k: &str| damerau_levenshtein(&normal(k), &word);
            offered(known)
                .map(|k| (distance(k), k))
                .filter(|(d, k)| *d <= tolerance && *d < k.len())
                .min_by_key(|(d, _)| *d)
                .map(|(_, k)| k)
        })
}

/// Small letters only, so that `restart_policy`, `RestartPolicy` and `restart-policy` are one.
/// What is longer than any known word is cut, since comparing costs its length.
fn normal(word: &str) -> String {
    let letters = word.chars().filter(|c| c.is_alphanumeric());
    letters.take(40).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: [&str; 9] = [
        "replicas",
        "image",
        "command",
        "args",
        "env",
        "workingDir",
        "ports",
        "restart",
        "imagePullPolicy",
    ];

    #[test]
    fn the_nearest_word_is_meant() {
        for (word, meant) in [
            ("replica", "replicas"),
            ("relpicas", "replicas"),
            ("working_dir", "workingDir"),
            ("Image", "image"),
            ("imgae", "image"),
            ("environment", "env"),
            ("restartPolicy", "restart"),
            ("pull_policy", "imagePullPolicy"),
            ("port", "ports"),
        ] {
            assert_eq!(
                help(word, &SPEC),
                format!("did you mean `{meant}`?"),
                "{word}"
            );
        }
    }

    #[test]
    fn without_a_near_word_the_known_ones_are_listed_if_they_are_few() {
        assert_eq!(
            help("volumes", &SPEC),
            "`windlass schema` shows every field"
        );
        assert_eq!(help("x", &["cpu", "memory"]), "known here: `cpu`, `memory`");
        assert_eq!(
            help("Deployment", &["Service"]),
            "only `Service` is known here"
        );
        // What the system writes is never meant.
        assert_eq!(
            help("meta-data", &["spec", "meta", "status"]),
            "only `spec` is known here"
        );
        assert_eq!(
            help("stauts", &["port", "status"]),
            "did you mean `status`?"
        );
    }
}
