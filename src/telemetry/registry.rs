//! The metrics of this process and their values: a recorder behind the `metrics` facade that knows every metric by
//! its [`Metric`], keeps histograms in fixed buckets (recording is two atomic additions), and has a bound on series.

use super::names::{Detail, Kind, Metric, Unit};
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

/// Series of one metric; further ones are added up in one whose labels all say `other`.
pub(super) const MAX_SERIES: usize = 2000;

/// Characters of a label's value; what is longer is cut.
const MAX_LABEL_CHARS: usize = 128;

/// What a label says in place of values beyond a bound.
pub(super) const OTHER: &str = "other";

/// Bounds for sizes of requests: 1 KiB to 64 MiB, each four times the one before.
const BYTES_BOUNDS: &[f64] =
    &[1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];

/// The Collector's bounds for the bytes of a batch.
const BATCH_BYTES_BOUNDS: &[f64] = &[
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16_384.0,
    32_768.0,
    65_536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
    16_777_216.0,
];

/// Bounds for what a stage takes: 10 µs to 2.5 s.
const SECONDS_BOUNDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5,
];

/// Bounds for numbers of items: the Collector's for sizes of batches.
const COUNT_BOUNDS: &[f64] = &[
    10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0,
    9000.0, 10_000.0, 20_000.0, 30_000.0, 50_000.0, 100_000.0,
];

/// Names and values of a series' labels, in the order they were given.
pub(super) type Labels = Vec<(String, String)>;

/// A value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Point {
    /// Of a counter that counts whole things.
    Whole(u64),
    /// Of a gauge, or a counter of seconds.
    Number(f64),
    /// Of a histogram: bounds, observations at or below each bound and above the last, and the sum of what was observed.
    Distribution { bounds: &'static [f64], counts: Vec<u64>, sum: f64 },
}

/// A metric with all its series at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    pub(super) metric: Metric,
    pub(super) series: Vec<(Labels, Point)>,
}

/// All metrics. Clones are the same metrics.
#[derive(Clone, Debug)]
pub(super) struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// A [`Detail`]: what is not recorded need not be shown.
    detail: AtomicU8,
    series: Mutex<Series>,
}

type Series = BTreeMap<Metric, BTreeMap<Labels, Value>>;

#[derive(Clone, Debug)]
enum Value {
    Counter(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// Fixed buckets.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    /// One more than bounds; not cumulative.
    counts: Box<[AtomicU64]>,
    /// In `1 / scale` of the unit, so that it can be added to without a lock.
    sum: AtomicU64,
    scale: f64,
}

impl Buckets {
    fn new(metric: Metric) -> Self {
        let (bounds, scale) = match metric.unit() {
            Unit::Bytes if metric.name().ends_with("_size_bytes") => (BATCH_BYTES_BOUNDS, 1.0),
            Unit::Bytes => (BYTES_BOUNDS, 1.0),
            Unit::Seconds => (SECONDS_BOUNDS, 1e9),
            Unit::Count => (COUNT_BOUNDS, 1.0),
        };
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0), scale }
    }

    fn point(&self) -> Point {
        #[allow(clippy::cast_precision_loss)] // a sum, shown rounded
        let sum = self.sum.load(Ordering::Relaxed) as f64 / self.scale;
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Point::Distribution { bounds: self.bounds, counts, sum }
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sizes and durations; the cast saturates
        self.sum.fetch_add((value * self.scale) as u64, Ordering::Relaxed);
    }
}

impl Registry {
    /// Without series. Metrics beyond `detail` are neither recorded nor shown.
    pub(super) fn new(detail: Detail) -> Self {
        Self(Arc::new(Inner { detail: AtomicU8::new(detail as u8), series: Mutex::default() }))
    }

    /// Records and shows as much as `detail` from now on.
    pub(super) fn set_detail(&self, detail: Detail) {
        self.0.detail.store(detail as u8, Ordering::Relaxed);
    }

    /// Whether a metric is recorded and shown.
    pub(super) fn shows(&self, metric: Metric) -> bool {
        metric.detail() as u8 <= self.0.detail.load(Ordering::Relaxed)
    }

    /// Forgets series that nobody holds a handle to any more: a component that is no longer configured leaves no
    /// frozen numbers behind. Reloads are counted through handles that nobody keeps.
    pub(super) fn forget_unused(&self) {
        let mut series = self.series();
        for (metric, family) in series.iter_mut() {
            family.retain(|_, value| *metric == Metric::ConfigReloads || value.in_use());
        }
        series.retain(|_, family| !family.is_empty());
    }

    /// Everything recorded, in the order of the metrics' list and of their labels.
    pub(super) fn families(&self) -> Vec<Family> {
        let series = self.series();
        let shown = series.iter().filter(|(metric, _)| self.shows(**metric));
        let family = |(metric, family): (&Metric, &BTreeMap<Labels, Value>)| Family {
            metric: *metric,
            series: family.iter().map(|(labels, value)| (labels.clone(), value.point())).collect(),
        };
        shown.map(family).collect()
    }

    fn register(&self, key: &Key, kind: Kind) -> Option<Value> {
        // Libraries may use the facade too; what they record is not ours to show.
        let metric = Metric::named(key.name()).filter(|metric| metric.kind() == kind && self.shows(*metric))?;
        let mut labels: Labels = key.labels().map(|label| (label.key().to_owned(), cut(label.value()))).collect();
        let mut series = self.series();
        let family = series.entry(metric).or_default();
        if family.len() >= MAX_SERIES && !family.contains_key(&labels) {
            labels.iter_mut().for_each(|(_, value)| OTHER.clone_into(value));
        }
        Some(family.entry(labels).or_insert_with(|| Value::of(metric)).clone())
    }

    /// A poisoned lock is no reason to stop telling: a series is whole between any two statements.
    fn series(&self) -> MutexGuard<'_, Series> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Value {
    fn of(metric: Metric) -> Self {
        match metric.kind() {
            Kind::Counter => Value::Counter(Arc::default()),
            Kind::Gauge => Value::Gauge(Arc::default()),
            Kind::Histogram => Value::Histogram(Arc::new(Buckets::new(metric))),
        }
    }

    /// Whether somebody besides the registry can record to it.
    fn in_use(&self) -> bool {
        let holders = match self {
            Value::Counter(number) | Value::Gauge(number) => Arc::strong_count(number),
            Value::Histogram(buckets) => Arc::strong_count(buckets),
        };
        holders > 1
    }

    fn point(&self) -> Point {
        match self {
            Value::Counter(count) => Point::Whole(count.load(Ordering::Relaxed)),
            Value::Gauge(bits) => Point::Number(f64::from_bits(bits.load(Ordering::Relaxed))),
            Value::Histogram(buckets) => buckets.point(),
        }
    }
}

fn cut(value: &str) -> String {
    value.chars().take(MAX_LABEL_CHARS).collect()
}

impl Recorder for Registry {
    fn describe_counter(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<metrics::Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.register(key, Kind::Counter) {
            Some(Value::Counter(count)) => count.into(),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.register(key, Kind::Gauge) {
            Some(Value::Gauge(bits)) => bits.into(),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.register(key, Kind::Histogram) {
            Some(Value::Histogram(buckets)) => buckets.into(),
            _ => Histogram::noop(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn point(registry: &Registry, metric: Metric, labels: &[(&str, &str)]) -> Option<Point> {
        let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let family = registry.families().into_iter().find(|family| family.metric == metric)?;
        family.series.into_iter().find(|(found, _)| *found == labels).map(|(_, point)| point)
    }

    fn sent(registry: &Registry, exporter: String) -> Counter {
        metrics::with_local_recorder(
            registry,
            || metrics::counter!(Metric::ExporterSentSpans.name(), "exporter" => exporter),
        )
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let registry = Registry::new(Detail::Normal);
        sent(&registry, "a".to_owned()).increment(1);
        sent(&registry, "a".to_owned()).increment(2);
        sent(&registry, "b".to_owned()).increment(4);
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", "a")]), Some(Point::Whole(3)));
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", "b")]), Some(Point::Whole(4)));
    }

    #[test]
    fn series_beyond_the_bound_are_added_up_and_long_values_cut() {
        let registry = Registry::new(Detail::Basic);
        (0..MAX_SERIES + 500).for_each(|n| sent(&registry, format!("e{n}")).increment(1));
        let families = registry.families();
        assert_eq!(families[0].series.len(), MAX_SERIES + 1);
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", OTHER)]), Some(Point::Whole(500)));
        sent(&registry, "e7".to_owned()).increment(1);
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", "e7")]), Some(Point::Whole(2)));

        let registry = Registry::new(Detail::Basic);
        sent(&registry, "x".repeat(5000)).increment(1);
        assert_eq!(registry.families()[0].series[0].0[0].1.len(), MAX_LABEL_CHARS);
    }

    #[test]
    fn what_is_beyond_the_level_or_not_ours_is_not_recorded() {
        let registry = Registry::new(Detail::Normal);
        metrics::with_local_recorder(&registry, || {
            metrics::histogram!(Metric::ProcessorInternalDuration.name()).record(1.0);
            metrics::counter!("somebody_elses").increment(1);
            metrics::gauge!(Metric::ExporterSentSpans.name()).set(1.0);
        });
        assert_eq!(registry.families(), []);
    }

    #[test]
    fn a_value_counts_in_the_bucket_it_is_not_above() {
        let registry = Registry::new(Detail::Normal);
        let durations = metrics::with_local_recorder(&registry, || metrics::histogram!(Metric::StageDuration.name()));
        for seconds in [0.0, 0.000_01, 0.000_011, 2.5, 3.0] {
            durations.record(seconds);
        }
        let Some(Point::Distribution { bounds, counts, sum }) = point(&registry, Metric::StageDuration, &[]) else {
            panic!("no histogram")
        };
        assert_eq!(counts.len(), bounds.len() + 1);
        assert_eq!((counts[0], counts[1], counts[bounds.len() - 1], counts[bounds.len()]), (2, 1, 1, 1));
        assert!((sum - 5.500_021).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn what_nobody_records_to_any_more_is_forgotten() {
        let registry = Registry::new(Detail::Normal);
        let kept = sent(&registry, "kept".to_owned());
        kept.increment(2);
        sent(&registry, "gone".to_owned()).increment(1);
        metrics::with_local_recorder(&registry, || metrics::counter!(Metric::ConfigReloads.name()).increment(1));
        registry.forget_unused();
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", "kept")]), Some(Point::Whole(2)));
        assert_eq!(point(&registry, Metric::ExporterSentSpans, &[("exporter", "gone")]), None);
        assert_eq!(point(&registry, Metric::ConfigReloads, &[]), Some(Point::Whole(1)));
    }
}
