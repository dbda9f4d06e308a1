"""What admins enter about agents and models, and the filters of the calls list."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q, QuerySet

from agents.models import Agent, CallOutcome, LlmConfig, ScheduledTask, ToolCall
from agents.services.agents import visible_llm_configs
from agents.services.schedules import time_zones
from aster.accounts.access import Actor
from aster.accounts.forms import ActivityFilter
from aster.form_fields import JsonObjectField
from integrations.models import McpServer


class AgentForm(forms.ModelForm[Agent]):
    input_json_schema = JsonObjectField(
        label="Input JSON schema",
        required=False,
        help_text="What the agent expects when a program calls it. Leave empty for plain text.",
    )

    class Meta:
        model = Agent
        fields = ("name", "description", "prompt", "llm_config", "input_json_schema", "is_enabled")
        labels = {"llm_config": "LLM config", "is_enabled": "Enabled"}
        widgets = {"prompt": forms.Textarea(attrs={"rows": 8})}
        help_texts = {
            "description": "One line that tells people what it is for.",
            "prompt": "How it should behave: its task, its tone, what it must not do.",
            "llm_config": "The model it thinks with. MCP clients bring their own, so the gateway works without one.",
            "is_enabled": "A disabled agent offers no tools and refuses calls.",
        }

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        configs = self.fields["llm_config"]
        assert isinstance(configs, forms.ModelChoiceField)  # noqa: S101
        configs.queryset = visible_llm_configs(actor)
        configs.empty_label = "None"
        if not actor.is_admin:
            for field in self.fields.values():
                field.disabled = True


class LlmConfigForm(forms.ModelForm[LlmConfig]):
    api_key = forms.CharField(
        label="API key",
        required=False,
        max_length=5000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    forget_key = forms.BooleanField(label="Forget the stored key", required=False)

    class Meta:
        model = LlmConfig
        fields = ("name", "protocol", "base_url", "model", "max_tokens")
        help_texts = {
            "protocol": "Most providers and local servers (Ollama, vLLM) are OpenAI compatible.",
            "base_url": "Up to the version, for example https://api.openai.com/v1 or https://api.anthropic.com/v1",
            "model": "As the provider names it, for example gpt-5-mini",
            "max_tokens": "In tokens. An answer ends there, finished or not.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.key_is_set = bool(self.instance.api_key)
        words = "A key is stored. Leave this empty to keep it, or enter a new one to replace it."
        self.fields["api_key"].help_text = words if self.key_is_set else "Stored encrypted and never shown again."
        if not self.key_is_set:
            del self.fields["forget_key"]

    def filled(self) -> LlmConfig:
        """The config with what was entered; a stored key stays unless it is replaced or forgotten."""
        config = self.instance
        if self.cleaned_data["api_key"]:
            config.api_key = self.cleaned_data["api_key"]
        elif self.cleaned_data.get("forget_key"):
            config.api_key = ""
        return config


class ScheduleForm(forms.ModelForm[ScheduledTask]):
    cron = forms.CharField(
        label="At set times, as a cron line",
        required=False,
        max_length=100,
        help_text="Minute, hour, day, month, weekday. 0 9 * * 1-5 is nine o'clock from Monday to Friday, 30 7 1 * * "
        "half past seven on the first of each month.",
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
    )
    every_minutes = forms.IntegerField(
        label="Or every … minutes",
        required=False,
        min_value=1,
        max_value=525_600,
        help_text="60 is hourly, 1440 daily.",
    )
    time_zone = forms.ChoiceField(choices=[(zone, zone) for zone in time_zones()], initial="UTC")
    input = JsonObjectField(
        required=False, help_text="Only for an agent that asks for input at the start of a chat: its values, as JSON."
    )

    class Meta:
        model = ScheduledTask
        fields = ("name", "agent", "prompt", "input", "cron", "time_zone", "overlap", "notifies_failures")
        labels = {
            "prompt": "Message",
            "overlap": "If the run before has not ended",
            "notifies_failures": "Mail me when a run fails",
        }
        widgets = {"prompt": forms.Textarea(attrs={"rows": 5})}
        help_texts = {"prompt": "What you would write to the agent in a chat. It works as you, with your connections."}

    field_order = (
        "name",
        "agent",
        "prompt",
        "input",
        "cron",
        "every_minutes",
        "time_zone",
        "overlap",
        "notifies_failures",
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        agents = self.fields["agent"]
        assert isinstance(agents, forms.ModelChoiceField)  # noqa: S101
        agents.queryset = Agent.objects.usable_by(actor).exclude(llm_config=None)
        asking = agents.queryset.exclude(input_json_schema={}).values_list("pk", flat=True)
        self.asking_agents = "|".join(map(str, asking))
        agents.empty_label = "Choose an agent" if agents.queryset else "No agent has a model yet"
        if self.instance.every_seconds:
            self.fields["every_minutes"].initial = max(1, self.instance.every_seconds // 60)
        if self.instance.pk is None and not self.is_bound:
            self.fields["time_zone"].widget.attrs["data-own-zone"] = ""

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        minutes = values.get("every_minutes")
        self.instance.every_seconds = minutes * 60 if minutes else None
        return values


class CallsFilter(ActivityFilter):
    outcome = forms.ChoiceField(required=False, choices=[("", "Any outcome"), *CallOutcome.choices])
    agent = forms.ChoiceField(required=False)
    server = forms.ChoiceField(required=False)
    field_order = ("q", "person", "agent", "server", "outcome", "since", "until")

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, actor=actor, **kwargs)
        agents = Agent.objects.visible_to(actor).values_list("pk", "name")[:500]
        servers = McpServer.objects.visible_to(actor).values_list("pk", "name")[:500]
        self._set_choices("agent", [("", "Any agent"), ("none", "No agent"), *((str(pk), name) for pk, name in agents)])
        self._set_choices("server", [("", "Any server"), *((str(pk), name) for pk, name in servers)])
        self.full_clean()

    def apply(self, calls: QuerySet[ToolCall]) -> QuerySet[ToolCall]:
        wanted = self.wanted
        names = {"person": "user_id", "agent": "agent_id", "server": "server_id", "outcome": "outcome"}
        same: dict[str, Any] = {names[name]: wanted[name] for name in names if name in wanted}
        if same.get("agent_id") == "none":
            same["agent_id"] = None
        calls = calls.filter(self.between("at"), **same)
        if words := wanted.get("q"):
            text = Q(tool_name__icontains=words) | Q(user_label__icontains=words) | Q(server_label__icontains=words)
            calls = calls.filter(text | Q(request_id=words))
        return calls
