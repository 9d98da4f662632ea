//! Metrics as a scraper reads them: the classic text format, or OpenMetrics, with the endings a reader asks for.

use super::{
    names::{Kind, Metric, Unit},
    registry::{Family, Labels, Point},
};
use std::fmt::Write;

/// What a scrape is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format 0.0.4.
    Classic,
    /// OpenMetrics 1.0.0, where a counter's sample always ends in `_total`.
    OpenMetrics,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics wants bounds to look like floating-point numbers.
    fn bound(self, bound: f64) -> String {
        let text = bound.to_string();
        if self == Format::OpenMetrics && !text.contains('.') { text + ".0" } else { text }
    }

    /// What an `Accept` header asks for: OpenMetrics only where it is named and nothing else is liked better.
    pub(super) fn negotiated(accept: &str) -> Self {
        let mut best = (0.0, Format::Classic);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let format = match parts.next().map(str::to_ascii_lowercase).as_deref() {
                Some("application/openmetrics-text") => Format::OpenMetrics,
                Some("text/plain" | "text/*" | "*/*") => Format::Classic,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse).unwrap_or(0.0);
            let wins = quality > best.0 || (quality >= best.0 && quality > 0.0 && format == Format::OpenMetrics);
            if wins {
                best = (quality, format);
            }
        }
        best.1
    }
}

/// How names and labels are written; the Collector's keys of a Prometheus reader, and its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Leaves out the labels that name the instrumentation scope.
    pub without_scope_info: bool,
    /// Leaves out the ending `_total` of counters; OpenMetrics has it all the same.
    pub without_type_suffix: bool,
    /// Leaves out the ending that names the unit.
    pub without_units: bool,
    /// Labels of every sample: attributes of the resource that were asked for.
    pub constant_labels: Vec<(String, String)>,
}

impl Default for Style {
    fn default() -> Self {
        Self { without_scope_info: true, without_type_suffix: true, without_units: true, constant_labels: Vec::new() }
    }
}

/// Writes metrics, and `target_info` with the attributes of the resource.
pub(super) fn render(families: &[Family], resource: &[(String, String)], style: &Style, format: Format) -> String {
    let mut constant = String::new();
    if !style.without_scope_info {
        constant.push_str(concat!(
            "otel_scope_name=\"tracegate\",otel_scope_schema_url=\"\",otel_scope_version=\"",
            env!("CARGO_PKG_VERSION"),
            "\""
        ));
    }
    for (key, value) in &style.constant_labels {
        push_label(&mut constant, &label_name(key), value);
    }
    let mut page = Page { text: String::with_capacity(64 << 10), constant, style, format };
    families.iter().for_each(|family| page.family(family));
    page.target_info(resource);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page<'a> {
    text: String,
    /// Labels of every sample, as text.
    constant: String,
    style: &'a Style,
    format: Format,
}

impl Page<'_> {
    fn family(&mut self, family: &Family) {
        let metric = family.metric;
        let (name, total) = self.name(metric);
        let sample = format!("{name}{total}");
        // OpenMetrics describes a family by its name without `_total`, the classic format its samples.
        let described = if self.format == Format::OpenMetrics { &name } else { &sample };
        let kind = match metric.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {described} {}\n# TYPE {described} {kind}", escaped_help(metric.help()));
        if self.format == Format::OpenMetrics && !unit_suffix(metric).is_empty() && name.ends_with(unit_suffix(metric))
        {
            let _ = writeln!(self.text, "# UNIT {described} {}", &unit_suffix(metric)[1..]);
        }
        for (labels, point) in &family.series {
            self.series(&sample, labels, point);
        }
    }

    fn series(&mut self, name: &str, labels: &Labels, point: &Point) {
        let mut own = String::new();
        labels.iter().for_each(|(key, value)| push_label(&mut own, key, value));
        if !self.constant.is_empty() {
            if !own.is_empty() {
                own.push(',');
            }
            own.push_str(&self.constant);
        }
        match point {
            Point::Whole(count) => self.sample(name, "", &own, None, &count.to_string()),
            Point::Number(number) => self.sample(name, "", &own, None, &number.to_string()),
            Point::Distribution { bounds, counts, sum } => {
                let (format, mut total) = (self.format, 0);
                for (bound, count) in
                    bounds.iter().map(|bound| format.bound(*bound)).chain(["+Inf".to_owned()]).zip(counts)
                {
                    total += count;
                    self.sample(name, "_bucket", &own, Some(&bound), &total.to_string());
                }
                self.sample(name, "_sum", &own, None, &sum.to_string());
                self.sample(name, "_count", &own, None, &total.to_string());
            }
        }
    }

    fn sample(&mut self, name: &str, ending: &str, labels: &str, bound: Option<&str>, value: &str) {
        let _ = match (labels.is_empty(), bound) {
            (true, None) => writeln!(self.text, "{name}{ending} {value}"),
            (false, None) => writeln!(self.text, "{name}{ending}{{{labels}}} {value}"),
            (true, Some(bound)) => writeln!(self.text, "{name}{ending}{{le=\"{bound}\"}} {value}"),
            (false, Some(bound)) => writeln!(self.text, "{name}{ending}{{{labels},le=\"{bound}\"}} {value}"),
        };
    }

    /// A metric's name in this style, and the ending of its samples.
    fn name(&self, metric: Metric) -> (String, &'static str) {
        let mut name = metric.name().to_owned();
        if !self.style.without_units && !name.ends_with(unit_suffix(metric)) {
            name.push_str(unit_suffix(metric));
        }
        let counter = metric.kind() == Kind::Counter;
        let total = counter && (!self.style.without_type_suffix || self.format == Format::OpenMetrics);
        (name, if total { "_total" } else { "" })
    }

    fn target_info(&mut self, resource: &[(String, String)]) {
        let mut labels = String::new();
        resource.iter().for_each(|(key, value)| push_label(&mut labels, &label_name(key), value));
        let _ = writeln!(self.text, "# HELP target_info Target metadata\n# TYPE target_info gauge");
        let _ = writeln!(self.text, "target_info{{{labels}}} 1");
    }
}

fn unit_suffix(metric: Metric) -> &'static str {
    match metric.unit() {
        Unit::Count => "",
        Unit::Bytes => "_bytes",
        Unit::Seconds => "_seconds",
    }
}

fn push_label(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    // Writing to a String cannot fail.
    let _ = write!(labels, "{name}=\"{}\"", label_value(value));
}

/// `service.name` becomes `service_name`.
pub(super) fn label_name(key: &str) -> String {
    let mut name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// A value is the configuration's or ours, and is still made harmless: an id may hold whatever YAML can.
fn label_value(value: &str) -> String {
    super::display_safe(value).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn escaped_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::attacks;

    #[test]
    fn the_format_is_what_the_scraper_likes_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,\
            */*;q=0.1";
        for (accept, want) in [
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("text/plain", Format::Classic),
            ("text/html, application/json", Format::Classic),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", Format::OpenMetrics),
            ("application/openmetrics-text, */*", Format::OpenMetrics),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.1", Format::Classic),
            ("application/openmetrics-text;q=0", Format::Classic),
            ("application/openmetrics-text;q=x", Format::Classic),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::negotiated(accept), want, "{accept}");
        }
    }

    fn families() -> Vec<Family> {
        let labels = vec![("exporter".to_owned(), "x".to_owned())];
        vec![
            Family { metric: Metric::ExporterSentSpans, series: vec![(labels, Point::Whole(7))] },
            Family { metric: Metric::ProcessUptime, series: vec![(Vec::new(), Point::Number(1.5))] },
            Family { metric: Metric::ProcessCpuSeconds, series: vec![(Vec::new(), Point::Number(2.0))] },
            Family { metric: Metric::ProcessMemoryRss, series: vec![(Vec::new(), Point::Number(4096.0))] },
            Family {
                metric: Metric::StageDuration,
                series: vec![(
                    Vec::new(),
                    Point::Distribution { bounds: &[0.5, 1.0], counts: vec![1, 2, 4], sum: 9.25 },
                )],
            },
        ]
    }

    fn samples(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn the_default_is_the_collectors_classic_text() {
        let text =
            render(&families(), &[("service.name".to_owned(), "t".to_owned())], &Style::default(), Format::Classic);
        assert_eq!(
            samples(&text),
            [
                "otelcol_exporter_sent_spans{exporter=\"x\"} 7",
                "otelcol_process_uptime 1.5",
                "otelcol_process_cpu_seconds 2",
                "otelcol_process_memory_rss 4096",
                "tracegate_stage_duration_bucket{le=\"0.5\"} 1",
                "tracegate_stage_duration_bucket{le=\"1\"} 3",
                "tracegate_stage_duration_bucket{le=\"+Inf\"} 7",
                "tracegate_stage_duration_sum 9.25",
                "tracegate_stage_duration_count 7",
                "target_info{service_name=\"t\"} 1",
            ]
        );
        assert!(text.contains("# TYPE otelcol_exporter_sent_spans counter\n"), "{text}");
    }

    #[test]
    fn openmetrics_has_total_units_and_an_end() {
        let style = Style { without_units: false, ..Style::default() };
        let text = render(&families(), &[], &style, Format::OpenMetrics);
        for line in [
            "# TYPE otelcol_exporter_sent_spans counter",
            "otelcol_exporter_sent_spans_total{exporter=\"x\"} 7",
            "# TYPE otelcol_process_uptime_seconds counter",
            "# UNIT otelcol_process_uptime_seconds seconds",
            "otelcol_process_uptime_seconds_total 1.5",
            "otelcol_process_cpu_seconds_total 2",
            "otelcol_process_memory_rss_bytes 4096",
            "tracegate_stage_duration_seconds_bucket{le=\"1.0\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_reader_may_ask_for_endings_scope_and_resource() {
        let style = Style {
            without_scope_info: false,
            without_type_suffix: false,
            without_units: false,
            constant_labels: vec![("k8s.pod".to_owned(), "a\"b".to_owned())],
        };
        let text = render(&families(), &[], &style, Format::Classic);
        let scope = concat!(
            "otel_scope_name=\"tracegate\",otel_scope_schema_url=\"\",otel_scope_version=\"",
            env!("CARGO_PKG_VERSION"),
            "\",k8s_pod=\"a\\\"b\""
        );
        let want = format!("otelcol_exporter_sent_spans_total{{exporter=\"x\",{scope}}} 7");
        assert_eq!(samples(&text)[0], want);
        assert_eq!(samples(&text)[1], format!("otelcol_process_uptime_seconds_total{{{scope}}} 1.5"));
        assert!(text.contains("# TYPE otelcol_exporter_sent_spans_total counter\n"), "{text}");
    }

    #[test]
    fn nothing_in_a_label_leaves_its_quotes_or_its_line() {
        for evil in attacks::all() {
            let labels = vec![("exporter".to_owned(), evil.clone())];
            let family = Family { metric: Metric::ExporterSentSpans, series: vec![(labels, Point::Whole(1))] };
            let text = render(&[family], &[("a".to_owned(), evil.clone())], &Style::default(), Format::Classic);
            assert_eq!(text.lines().count(), 6, "{text}");
            attacks::assert_harmless(&text, &['\n']);
            for line in samples(&text) {
                let inside = line.split_once("=\"").and_then(|(_, rest)| rest.rsplit_once("\"} 1"));
                let inside = inside.map(|(inside, _)| inside).unwrap_or_else(|| panic!("{line}"));
                let mut chars = inside.chars();
                while let Some(c) = chars.next() {
                    assert!(c != '"', "an open quote in {line}");
                    if c == '\\' {
                        assert!(matches!(chars.next(), Some('\\' | '"' | 'n')), "{line}");
                    }
                }
            }
        }
    }
}
