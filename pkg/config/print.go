package config

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
)

// YAML is the configuration as it is in effect, in the file's own keys and
// order. Secrets are "[set]".
func (cfg *Config) YAML() ([]byte, error) {
	node, err := yamlNode(reflect.ValueOf(*cfg))
	if err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("print the configuration: %w", err)
	}
	return text.Bytes(), nil
}

func yamlNode(value reflect.Value) (*yaml.Node, error) {
	switch {
	case value.Type() == durationType:
		return scalar(FormatDuration(time.Duration(value.Int())))
	case value.Kind() == reflect.Struct:
		mapping := &yaml.Node{Kind: yaml.MappingNode}
		for i := range value.NumField() {
			member, err := yamlNode(value.Field(i))
			if err != nil {
				return nil, err
			}
			key := &yaml.Node{Kind: yaml.ScalarNode, Value: value.Type().Field(i).Tag.Get("koanf")}
			mapping.Content = append(mapping.Content, key, member)
		}
		return mapping, nil
	case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range value.Len() {
			element, err := yamlNode(value.Index(i))
			if err != nil {
				return nil, err
			}
			list.Content = append(list.Content, element)
		}
		if len(list.Content) == 0 {
			list.Style = yaml.FlowStyle
		}
		return list, nil
	case value.Kind() == reflect.Slice && value.IsNil():
		return scalar([]string{})
	case value.Kind() == reflect.Map && value.IsNil():
		return scalar(map[string]string{})
	}
	return scalar(value.Interface())
}

func scalar(value any) (*yaml.Node, error) {
	node := &yaml.Node{}
	if err := node.Encode(value); err != nil {
		return nil, err
	}
	return node, nil
}
