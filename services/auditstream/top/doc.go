// Package top shows how the pipeline is doing from beside it: who works in each
// group, how far behind each is, how fast it goes, what is set aside and what
// stays open. It asks Kafka alone, as everything there is to know is in the
// groups, their offsets and the topics. Sampler looks (and can be asked by a
// program), Text and the terminal's Model draw what it saw.
package top
