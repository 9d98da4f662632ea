//! Every metric tracegate has: one enumeration with name, kind, unit and help.
//!
//! `otelcol_` names are the OpenTelemetry Collector's, as its default Prometheus reader gives them: no unit and no
//! `_total`. `tracegate_` names are our own and follow the same rule.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution in fixed buckets.
    Histogram,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

macro_rules! metrics {
    ($($metric:ident = $name:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        /// A metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // the help text says it
        pub enum Metric {
            $($metric,)*
        }

        impl Metric {
            /// Every metric.
            pub const ALL: &'static [Metric] = &[$(Metric::$metric,)*];

            /// Its name in a scrape.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$metric => $name,)* }
            }

            /// How it moves.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$metric => Kind::$kind,)* }
            }

            /// What it counts.
            pub const fn unit(self) -> Unit {
                match self { $(Metric::$metric => Unit::$unit,)* }
            }

            /// A sentence for a person.
            pub const fn help(self) -> &'static str {
                match self { $(Metric::$metric => $help,)* }
            }
        }
    };
}

metrics! {
    ReceiverAcceptedSpans = "otelcol_receiver_accepted_spans", Counter, Count,
        "Spans taken into the pipeline.";
    ReceiverAcceptedLogRecords = "otelcol_receiver_accepted_log_records", Counter, Count,
        "Log records taken into the pipeline.";
    ReceiverAcceptedMetricPoints = "otelcol_receiver_accepted_metric_points", Counter, Count,
        "Metric points taken into the pipeline.";
    ReceiverRefusedSpans = "otelcol_receiver_refused_spans", Counter, Count,
        "Spans the pipeline did not take.";
    ReceiverRefusedLogRecords = "otelcol_receiver_refused_log_records", Counter, Count,
        "Log records the pipeline did not take.";
    ReceiverRefusedMetricPoints = "otelcol_receiver_refused_metric_points", Counter, Count,
        "Metric points the pipeline did not take.";
    ReceiverFailedSpans = "otelcol_receiver_failed_spans", Counter, Count,
        "Spans lost to an error inside the receiver.";
    ReceiverFailedLogRecords = "otelcol_receiver_failed_log_records", Counter, Count,
        "Log records lost to an error inside the receiver.";
    ReceiverFailedMetricPoints = "otelcol_receiver_failed_metric_points", Counter, Count,
        "Metric points lost to an error inside the receiver.";
    ReceiverRequestBytes = "tracegate_receiver_request_bytes", Histogram, Bytes,
        "Size of received requests after decompression.";

    MemoryLimiterAcceptedSpans = "otelcol_processor_memory_limiter_accepted_spans", Counter, Count,
        "Spans let through by the memory limiter.";
    MemoryLimiterAcceptedLogRecords = "otelcol_processor_memory_limiter_accepted_log_records", Counter, Count,
        "Log records let through by the memory limiter.";
    MemoryLimiterAcceptedMetricPoints = "otelcol_processor_memory_limiter_accepted_metric_points", Counter, Count,
        "Metric points let through by the memory limiter.";
    MemoryLimiterRefusedSpans = "otelcol_processor_memory_limiter_refused_spans", Counter, Count,
        "Spans refused by the memory limiter.";
    MemoryLimiterRefusedLogRecords = "otelcol_processor_memory_limiter_refused_log_records", Counter, Count,
        "Log records refused by the memory limiter.";
    MemoryLimiterRefusedMetricPoints = "otelcol_processor_memory_limiter_refused_metric_points", Counter, Count,
        "Metric points refused by the memory limiter.";

    BatchSendSize = "otelcol_processor_batch_batch_send_size", Histogram, Count,
        "Items in each batch that was handed on.";
    BatchSendSizeBytes = "otelcol_processor_batch_batch_send_size_bytes", Histogram, Bytes,
        "Bytes in each batch that was handed on.";
    BatchSizeTriggerSend = "otelcol_processor_batch_batch_size_trigger_send", Counter, Count,
        "Batches handed on because they were large enough.";
    BatchTimeoutTriggerSend = "otelcol_processor_batch_timeout_trigger_send", Counter, Count,
        "Batches handed on because their time was up.";
    BatchMetadataCardinality = "otelcol_processor_batch_metadata_cardinality", Gauge, Count,
        "Combinations of metadata values that are batched apart.";

    MaskFindings = "tracegate_mask_findings", Counter, Count,
        "Values masked, by rule and class.";
    MaskMaskedBytes = "tracegate_mask_masked_bytes", Counter, Bytes,
        "Bytes of payload replaced by masking.";
    MaskUnscanned = "tracegate_mask_unscanned", Counter, Count,
        "Values masked whole because they could not be scanned within their budget.";
    MaskIncomingMarkers = "tracegate_mask_incoming_markers", Counter, Count,
        "Masking markers that were already in received data.";
    PipelineEnforced = "tracegate_pipeline_enforced", Gauge, Count,
        "1 if the pipeline masks what passes, 0 if it does not.";

    ExporterSentSpans = "otelcol_exporter_sent_spans", Counter, Count,
        "Spans the destination took.";
    ExporterSentLogRecords = "otelcol_exporter_sent_log_records", Counter, Count,
        "Log records the destination took.";
    ExporterSentMetricPoints = "otelcol_exporter_sent_metric_points", Counter, Count,
        "Metric points the destination took.";
    ExporterSendFailedSpans = "otelcol_exporter_send_failed_spans", Counter, Count,
        "Spans given up after failed attempts to send.";
    ExporterSendFailedLogRecords = "otelcol_exporter_send_failed_log_records", Counter, Count,
        "Log records given up after failed attempts to send.";
    ExporterSendFailedMetricPoints = "otelcol_exporter_send_failed_metric_points", Counter, Count,
        "Metric points given up after failed attempts to send.";
    ExporterEnqueueFailedSpans = "otelcol_exporter_enqueue_failed_spans", Counter, Count,
        "Spans for which the sending queue had no room.";
    ExporterEnqueueFailedLogRecords = "otelcol_exporter_enqueue_failed_log_records", Counter, Count,
        "Log records for which the sending queue had no room.";
    ExporterEnqueueFailedMetricPoints = "otelcol_exporter_enqueue_failed_metric_points", Counter, Count,
        "Metric points for which the sending queue had no room.";
    ExporterRejectedSpans = "tracegate_exporter_rejected_spans", Counter, Count,
        "Spans the destination rejected by partial success.";
    ExporterRejectedLogRecords = "tracegate_exporter_rejected_log_records", Counter, Count,
        "Log records the destination rejected by partial success.";
    ExporterRejectedMetricPoints = "tracegate_exporter_rejected_metric_points", Counter, Count,
        "Metric points the destination rejected by partial success.";
    ExporterDroppedSpans = "tracegate_exporter_dropped_spans", Counter, Count,
        "Spans still queued when the drain deadline passed.";
    ExporterDroppedLogRecords = "tracegate_exporter_dropped_log_records", Counter, Count,
        "Log records still queued when the drain deadline passed.";
    ExporterDroppedMetricPoints = "tracegate_exporter_dropped_metric_points", Counter, Count,
        "Metric points still queued when the drain deadline passed.";
    ExporterQueueSize = "otelcol_exporter_queue_size", Gauge, Count,
        "What the sending queue holds, in the unit of its sizer.";
    ExporterQueueCapacity = "otelcol_exporter_queue_capacity", Gauge, Count,
        "What the sending queue can hold, in the unit of its sizer.";

    ProcessUptime = "otelcol_process_uptime", Counter, Seconds,
        "Seconds since the process started.";
    ProcessCpuSeconds = "otelcol_process_cpu_seconds", Counter, Seconds,
        "User and system CPU time of the process in seconds.";
    ProcessMemoryRss = "otelcol_process_memory_rss", Gauge, Bytes,
        "Resident memory of the process in bytes.";
    ConfigReloads = "tracegate_config_reloads", Counter, Count,
        "Reloads of the configuration, by outcome; one that failed left everything as it was.";
}

/// What is counted for each signal. The order is that of the tables of metrics by items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Items {
    /// Items of traces.
    Spans,
    /// Items of logs.
    LogRecords,
    /// Items of metrics.
    MetricPoints,
}

impl Items {
    /// Every kind of item, in table order.
    pub const ALL: [Items; 3] = [Items::Spans, Items::LogRecords, Items::MetricPoints];

    /// The end of a metric's name: `spans`, `log_records`, `metric_points`.
    pub const fn name(self) -> &'static str {
        match self {
            Items::Spans => "spans",
            Items::LogRecords => "log_records",
            Items::MetricPoints => "metric_points",
        }
    }

    /// The items of that name, as `otlp::Signal::items_name` gives it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|items| items.name() == name)
    }
}

/// One metric for each kind of item, in the order of [`Items::ALL`].
pub type PerItems = [Metric; 3];

/// `otelcol_receiver_accepted_*`
pub const RECEIVER_ACCEPTED: PerItems =
    [Metric::ReceiverAcceptedSpans, Metric::ReceiverAcceptedLogRecords, Metric::ReceiverAcceptedMetricPoints];
/// `otelcol_receiver_refused_*`
pub const RECEIVER_REFUSED: PerItems =
    [Metric::ReceiverRefusedSpans, Metric::ReceiverRefusedLogRecords, Metric::ReceiverRefusedMetricPoints];
/// `otelcol_receiver_failed_*`
pub const RECEIVER_FAILED: PerItems =
    [Metric::ReceiverFailedSpans, Metric::ReceiverFailedLogRecords, Metric::ReceiverFailedMetricPoints];
/// `otelcol_processor_memory_limiter_accepted_*`
pub const MEMORY_LIMITER_ACCEPTED: PerItems = [
    Metric::MemoryLimiterAcceptedSpans,
    Metric::MemoryLimiterAcceptedLogRecords,
    Metric::MemoryLimiterAcceptedMetricPoints,
];
/// `otelcol_processor_memory_limiter_refused_*`
pub const MEMORY_LIMITER_REFUSED: PerItems = [
    Metric::MemoryLimiterRefusedSpans,
    Metric::MemoryLimiterRefusedLogRecords,
    Metric::MemoryLimiterRefusedMetricPoints,
];
/// `otelcol_exporter_sent_*`
pub const EXPORTER_SENT: PerItems =
    [Metric::ExporterSentSpans, Metric::ExporterSentLogRecords, Metric::ExporterSentMetricPoints];
/// `otelcol_exporter_send_failed_*`
pub const EXPORTER_SEND_FAILED: PerItems =
    [Metric::ExporterSendFailedSpans, Metric::ExporterSendFailedLogRecords, Metric::ExporterSendFailedMetricPoints];
/// `otelcol_exporter_enqueue_failed_*`
pub const EXPORTER_ENQUEUE_FAILED: PerItems = [
    Metric::ExporterEnqueueFailedSpans,
    Metric::ExporterEnqueueFailedLogRecords,
    Metric::ExporterEnqueueFailedMetricPoints,
];
/// `tracegate_exporter_rejected_*`
pub const EXPORTER_REJECTED: PerItems =
    [Metric::ExporterRejectedSpans, Metric::ExporterRejectedLogRecords, Metric::ExporterRejectedMetricPoints];
/// `tracegate_exporter_dropped_*`
pub const EXPORTER_DROPPED: PerItems =
    [Metric::ExporterDroppedSpans, Metric::ExporterDroppedLogRecords, Metric::ExporterDroppedMetricPoints];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_the_classic_form() {
        let names: HashSet<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for name in names {
            assert!(name.starts_with("otelcol_") || name.starts_with("tracegate_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn tables_by_items_are_in_order_and_of_one_family() {
        for table in [
            RECEIVER_ACCEPTED,
            RECEIVER_REFUSED,
            RECEIVER_FAILED,
            MEMORY_LIMITER_ACCEPTED,
            MEMORY_LIMITER_REFUSED,
            EXPORTER_SENT,
            EXPORTER_SEND_FAILED,
            EXPORTER_ENQUEUE_FAILED,
            EXPORTER_REJECTED,
            EXPORTER_DROPPED,
        ] {
            let families: HashSet<&str> = table
                .iter()
                .zip(Items::ALL)
                .map(|(metric, items)| metric.name().strip_suffix(items.name()).unwrap_or("wrong order"))
                .collect();
            assert_eq!(families.len(), 1, "{table:?}");
            assert!(!families.contains("wrong order"), "{table:?}");
        }
    }

    #[test]
    fn items_have_names() {
        for items in Items::ALL {
            assert_eq!(Items::named(items.name()), Some(items));
        }
        assert_eq!(Items::named("profile_samples"), None);
    }
}
