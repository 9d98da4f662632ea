//! Every text-bearing place of a decoded request, found through the oracle's types.

use super::build::Request;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{Exemplar, NumberDataPoint, metric::Data},
    resource::v1::Resource,
};
use tracegate::otlp::{Index, NO_KEY, Role};

/// A leaf as a person would describe it: what it is, the innermost key it stands under, its bytes.
pub type Found = (String, Option<Vec<u8>>, Vec<u8>);

/// What the walk found, sorted. Empty names are left out: the oracle cannot tell them from absent ones.
pub fn walked(bytes: &[u8], index: &Index) -> Vec<Found> {
    let text = |at: usize| {
        let leaf = index.leaves[at];
        bytes[leaf.start as usize..(leaf.start + leaf.len) as usize].to_vec()
    };
    let mut found: Vec<Found> = (0..index.leaves.len())
        .map(|at| {
            let leaf = index.leaves[at];
            let key = (leaf.key != NO_KEY).then(|| {
                assert_eq!(index.leaves[leaf.key as usize].role, Role::Key);
                text(leaf.key as usize)
            });
            (format!("{:?}", leaf.role), key, text(at))
        })
        .filter(|(role, _, text)| !(text.is_empty() && (role == "Name" || role == "Key")))
        .collect();
    found.sort();
    found
}

/// What the oracle says there is, sorted.
pub fn expected(request: &Request) -> Vec<Found> {
    let mut out = Collector::default();
    match request {
        Request::Traces(request) => {
            for envelope in &request.resource_spans {
                out.envelope(&envelope.resource, &envelope.schema_url);
                for scope in &envelope.scope_spans {
                    out.scope(&scope.scope, &scope.schema_url);
                    for span in &scope.spans {
                        out.names([&span.name, &span.trace_state]);
                        out.attributes(&span.attributes, None);
                        for event in &span.events {
                            out.names([&event.name]);
                            out.attributes(&event.attributes, None);
                        }
                        for link in &span.links {
                            out.names([&link.trace_state]);
                            out.attributes(&link.attributes, None);
                        }
                        out.names(span.status.iter().map(|status| &status.message));
                    }
                }
            }
        }
        Request::Logs(request) => {
            for envelope in &request.resource_logs {
                out.envelope(&envelope.resource, &envelope.schema_url);
                for scope in &envelope.scope_logs {
                    out.scope(&scope.scope, &scope.schema_url);
                    for record in &scope.log_records {
                        out.names([&record.severity_text, &record.event_name]);
                        out.attributes(&record.attributes, None);
                        out.value(record.body.as_ref(), None);
                    }
                }
            }
        }
        Request::Metrics(request) => {
            for envelope in &request.resource_metrics {
                out.envelope(&envelope.resource, &envelope.schema_url);
                for scope in &envelope.scope_metrics {
                    out.scope(&scope.scope, &scope.schema_url);
                    for metric in &scope.metrics {
                        out.names([&metric.name, &metric.description, &metric.unit]);
                        out.attributes(&metric.metadata, None);
                        out.data(metric.data.as_ref());
                    }
                }
            }
        }
    }
    out.found.sort();
    out.found
}

#[derive(Default)]
struct Collector {
    found: Vec<Found>,
}

impl Collector {
    fn add(&mut self, role: &str, key: Option<&str>, text: &[u8]) {
        if !(text.is_empty() && (role == "Name" || role == "Key")) {
            self.found.push((role.to_owned(), key.map(|key| key.as_bytes().to_vec()), text.to_vec()));
        }
    }

    fn names<'a>(&mut self, names: impl IntoIterator<Item = &'a String>) {
        for name in names {
            self.add("Name", None, name.as_bytes());
        }
    }

    fn envelope(&mut self, resource: &Option<Resource>, schema_url: &String) {
        self.names([schema_url]);
        if let Some(resource) = resource {
            self.attributes(&resource.attributes, None);
            for entity in &resource.entity_refs {
                self.names([&entity.schema_url, &entity.r#type]);
                for name in entity.id_keys.iter().chain(&entity.description_keys) {
                    self.names([name]);
                }
            }
        }
    }

    fn scope(&mut self, scope: &Option<InstrumentationScope>, schema_url: &String) {
        self.names([schema_url]);
        if let Some(scope) = scope {
            self.names([&scope.name, &scope.version]);
            self.attributes(&scope.attributes, None);
        }
    }

    fn attributes(&mut self, attributes: &[KeyValue], outer: Option<&str>) {
        for attribute in attributes {
            self.add("Key", outer, attribute.key.as_bytes());
            // The oracle does not write an empty key, so the key around it is the innermost there is.
            let key = if attribute.key.is_empty() { outer } else { Some(attribute.key.as_str()) };
            self.value(attribute.value.as_ref(), key);
        }
    }

    fn value(&mut self, value: Option<&AnyValue>, key: Option<&str>) {
        match value.and_then(|value| value.value.as_ref()) {
            None | Some(Value::BoolValue(_) | Value::StringValueStrindex(_)) => {}
            Some(Value::StringValue(text)) => self.add("Text", key, text.as_bytes()),
            Some(Value::BytesValue(bytes)) => self.add("Bytes", key, bytes),
            Some(Value::DoubleValue(number)) => self.add("Double", key, &number.to_le_bytes()),
            Some(Value::IntValue(number)) => {
                let mut varint = Vec::new();
                prost::encoding::encode_varint(*number as u64, &mut varint);
                self.add("Int", key, &varint);
            }
            Some(Value::ArrayValue(array)) => {
                for value in &array.values {
                    self.value(Some(value), key);
                }
            }
            Some(Value::KvlistValue(list)) => self.attributes(&list.values, key),
        }
    }

    fn exemplars(&mut self, exemplars: &[Exemplar]) {
        for exemplar in exemplars {
            self.attributes(&exemplar.filtered_attributes, None);
        }
    }

    fn numbers(&mut self, points: &[NumberDataPoint]) {
        for point in points {
            self.attributes(&point.attributes, None);
            self.exemplars(&point.exemplars);
        }
    }

    fn data(&mut self, data: Option<&Data>) {
        match data {
            None => {}
            Some(Data::Gauge(data)) => self.numbers(&data.data_points),
            Some(Data::Sum(data)) => self.numbers(&data.data_points),
            Some(Data::Histogram(data)) => {
                for point in &data.data_points {
                    self.attributes(&point.attributes, None);
                    self.exemplars(&point.exemplars);
                }
            }
            Some(Data::ExponentialHistogram(data)) => {
                for point in &data.data_points {
                    self.attributes(&point.attributes, None);
                    self.exemplars(&point.exemplars);
                }
            }
            Some(Data::Summary(data)) => {
                for point in &data.data_points {
                    self.attributes(&point.attributes, None);
                }
            }
        }
    }
}
