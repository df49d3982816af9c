//! The list of connectors, erased: the service walks it and names none of them.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::channel::ChannelSpec;
use crate::{ConnectError, Connector, Dialect, Env, Manifest, Parts, Site};

/// One connector, without its type.
#[derive(Clone, Copy)]
pub struct ConnectorSpec {
    /// See [`Connector::NAME`].
    pub name: &'static str,
    /// See [`Connector::manifest`].
    pub manifest: fn() -> Manifest,
    /// See [`Connector::dialect`].
    pub dialect: fn() -> Option<Dialect>,
    /// See [`Connector::setup`].
    pub setup: fn(&Site) -> String,
    /// The JSON Schema of its settings.
    pub schema: fn() -> Schema,
    /// See [`Connector::connect`]; takes the settings as they stand in the config file.
    pub connect: fn(Value, &Env<'_>) -> Result<Parts, ConnectError>,
}

impl ConnectorSpec {
    /// Erases a connector.
    #[must_use]
    pub fn of<C: Connector>() -> Self {
        Self {
            name: C::NAME,
            manifest: C::manifest,
            dialect: C::dialect,
            setup: C::setup,
            schema: || SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<C::Settings>(),
            connect: |settings, env| {
                let settings = serde_json::from_value(settings)
                    .map_err(|error| ConnectError::Settings(error.to_string()))?;
                C::connect(settings, env)
            },
        }
    }
}

/// Every connector and every kind of channel that this program has.
#[derive(Clone)]
pub struct Registry {
    channels: Vec<ChannelSpec>,
    connectors: Vec<ConnectorSpec>,
}

impl Registry {
    /// A registry of these connectors, without channels.
    #[must_use]
    pub fn new(connectors: Vec<ConnectorSpec>) -> Self {
        Self { channels: Vec::new(), connectors }
    }

    /// The same with these kinds of channels.
    #[must_use]
    pub fn with_channels(self, channels: Vec<ChannelSpec>) -> Self {
        Self { channels, ..self }
    }

    /// The kind of channel of this name.
    #[must_use]
    pub fn channel(&self, name: &str) -> Option<&ChannelSpec> {
        self.channels.iter().find(|spec| spec.name == name)
    }

    /// Every kind of channel, in the list's order.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelSpec> {
        self.channels.iter()
    }

    /// The connector of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ConnectorSpec> {
        self.connectors.iter().find(|spec| spec.name == name)
    }

    /// All of them, in the list's order.
    pub fn iter(&self) -> impl Iterator<Item = &ConnectorSpec> {
        self.connectors.iter()
    }
}
